#include "onnx_io/test_case.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <onnx/onnx_pb.h>

#include "onnx_io/convert.h"
#include "onnx_io/lift.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/test_case_containers.h"
#include "onnx_io/test_case_file.h"
#include "onnx_io/unsupported.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

// A local function of the model is not an operator itself; its nodes are.
template <class Visit>
void for_each_operator(onnx::ModelProto& model, const Visit& visit) {
  std::set<std::pair<std::string, std::string>> local;
  for (const auto& function : model.functions()) local.emplace(function.domain(), function.name());
  auto visit_node = [&](const onnx::NodeProto& node) {
    if (!local.contains({node.domain(), node.op_type()})) visit(node.op_type(), canonical_domain(node.domain()));
  };
  for_each_node(*model.mutable_graph(), visit_node);
  for (auto& function : *model.mutable_functions()) for_each_node(function, visit_node);
}

std::string qualified(const std::string& op, const std::string& domain) {
  return domain.empty() ? op : domain + "." + op;
}

void require_readable(const fs::path& folder, const std::error_code& error) {
  if (error) throw_input_error("readable folders", folder.string() + ": " + error.message(), "check their permissions");
}

std::vector<Tensor> read_tensors(const fs::path& folder, const std::string& prefix) {
  std::vector<Tensor> tensors;
  for (;;) {
    const fs::path path = folder / fmt::format("{}_{}.pb", prefix, tensors.size());
    std::error_code error;
    const bool is_there = fs::exists(path, error);
    require_readable(folder, error);
    if (!is_there) return tensors;
    tensors.push_back(tensor_from_proto(read_case_file<onnx::TensorProto>(path, "a tensor")));
  }
}

const char* kind_of(const onnx::TypeProto& type) {
  switch (type.value_case()) {
    case onnx::TypeProto::kTensorType:
      return nullptr;
    case onnx::TypeProto::kSequenceType:
      return type.sequence_type().elem_type().has_tensor_type() ? nullptr
                                                                : "a sequence of elements that are not tensors";
    case onnx::TypeProto::kOptionalType:
      return kind_of(type.optional_type().elem_type());
    case onnx::TypeProto::kMapType:
      return "a map";
    default:
      return "no dense tensor";
  }
}

/// The operators that `wanted` holds for, with their domains; Constant is none.
template <class Wanted>
std::set<std::string> operators_of(onnx::ModelProto& model, const Wanted& wanted) {
  std::set<std::string> names;
  for_each_operator(model, [&](const std::string& op, const std::string& domain) {
    if ((op != "Constant" || !domain.empty()) && wanted(op, domain)) names.insert(qualified(op, domain));
  });
  return names;
}

}  // namespace

std::string not_in_table(const std::set<std::string>& operators) {
  return fmt::format("not in the operator table: {}", fmt::join(operators, ", "));
}

OnnxCase::OnnxCase(fs::path folder, std::string name)
    : folder_(std::move(folder)), name_(std::move(name)), model_(std::make_shared<onnx::ModelProto>()) {
  *model_ = read_case_file<onnx::ModelProto>(folder_ / "model.onnx", "a model");
  if (!has_containers(*model_)) return;
  const std::vector<fs::path> data = data_folders();
  if (!not_supported().empty() || data.empty()) return;
  source_ = std::make_shared<onnx::ModelProto>(*model_);
  fix_containers(*model_, data[0]);
}

std::vector<std::string> OnnxCase::operators() const {
  std::set<std::string> names = operators_of(*model_, [](const auto&...) { return true; });
  if (names.empty()) names.insert("Constant");
  return {names.begin(), names.end()};
}

std::set<std::string> OnnxCase::operators_without_row() const {
  return operators_of(*model_, [](const auto& op, const auto& domain) { return !find_op(op, domain); });
}

std::string OnnxCase::not_supported() const {
  register_schemas();
  const std::set<std::string> outside =
      operators_of(*model_, [](const auto& op, const auto& domain) { return !is_supported(op, domain); });
  if (!outside.empty()) return not_in_table(outside);
  for (const auto* values : {&model_->graph().input(), &model_->graph().output()})
    for (const onnx::ValueInfoProto& value : *values)
      if (const char* kind = kind_of(value.type())) return fmt::format("'{}' is {}", value.name(), kind);
  for (const auto& import : model_->opset_import())
    if (canonical_domain(import.domain()).empty() && import.version() < kOldestOnnxOpset)
      return fmt::format("operator set {}, older than {}", import.version(), kOldestOnnxOpset);
  return {};
}

std::string OnnxCase::model_bytes() const { return model_->SerializeAsString(); }

Graph OnnxCase::load() const {
  return source_ ? load_model_from_bytes(model_bytes(), folder_).graph : load_model(folder_ / "model.onnx").graph;
}

std::vector<fs::path> OnnxCase::data_folders() const {
  std::vector<fs::path> folders;
  std::error_code error, none;
  for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error))
    if (at->is_directory(none) && at->path().filename().string().starts_with("test_data_set"))
      folders.push_back(at->path());
  require_readable(folder_, error);
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::vector<OnnxDataSet> OnnxCase::data_sets() const {
  std::vector<OnnxDataSet> sets;
  for (const fs::path& folder : data_folders())
    if (source_)
      sets.push_back({read_container_inputs(*source_, folder), read_container_outputs(*source_, folder)});
    else
      sets.push_back({read_tensors(folder, "input"), read_tensors(folder, "output")});
  return sets;
}

std::vector<OnnxCase> find_onnx_cases(const fs::path& root) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (fs::recursive_directory_iterator at(root, error), end; !error && at != end; at.increment(error))
    if (at->path().filename() == "model.onnx") folders.push_back(at->path().parent_path());
  if (std::error_code none; fs::exists(root, none)) require_readable(root, error);
  if (folders.empty())
    throw_input_error("a folder with ONNX test cases (CASE/model.onnx)", "none below '" + root.string() + "'",
                      "write ONNX's own with script/onnx_cases");
  std::sort(folders.begin(), folders.end());
  std::vector<OnnxCase> cases;
  for (const fs::path& folder : folders) cases.emplace_back(folder, fs::relative(folder, root).generic_string());
  return cases;
}

}  // namespace halfstep
