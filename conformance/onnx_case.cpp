#include "conformance/onnx_case.h"

#include <algorithm>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <onnx/onnx_pb.h>

#include "conformance/case_file.h"
#include "conformance/container_case.h"
#include "conformance/run_graph.h"
#include "onnx_io/convert.h"
#include "onnx_io/lift.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/unsupported.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr double kRelative = 1e-3, kAbsolute = 1e-7;
const std::set<std::string> kRandomOperators = {"Bernoulli",        "Multinomial",   "RandomNormal",
                                                "RandomNormalLike", "RandomUniform", "RandomUniformLike"};
constexpr double kBfloat16Relative = 0x1p-6;  // two units of its precision, as in ONNX's suite

/// A case whose outputs in the file are further from the exact ones than its tolerance, so that a result that is right
/// may be outside.
struct RoughCase {
  std::string_view name;
  double relative;  ///< what is allowed instead
  const char* reason;
};
constexpr RoughCase kRoughCases[] = {
    {"test_attention_4d_causal_fp16_expanded", 2 * 0x1p-10,
     "compared to two units of f16: numpy rounded every exponential and sum of the softmax to f16, and is off by more "
     "than the case's 1e-3 itself"}};

/// A case whose outputs say something else than the operator's specification, and than deployed runtimes.
struct OtherReading {
  std::string_view name;
  const char* reason;
};
constexpr const char* kUnroundedExtent =
    "its outputs follow the unrounded extent, where align_corners speaks of the result's length";
constexpr OtherReading kOtherReadings[] = {{"test_resize_downsample_scales_linear_align_corners", kUnroundedExtent},
                                           {"test_resize_downsample_scales_cubic_align_corners", kUnroundedExtent}};

std::string_view last_part(std::string_view name) { return name.substr(name.rfind('/') + 1); }  // all without a '/'

const RoughCase* find_rough_case(std::string_view name) {
  name = last_part(name);
  const auto* const found =
      std::find_if(std::begin(kRoughCases), std::end(kRoughCases), [&](const RoughCase& c) { return c.name == name; });
  return found == std::end(kRoughCases) ? nullptr : found;
}

// A local function of the model is no operator of its own: its nodes are.
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

std::vector<Tensor> read_tensors(const fs::path& folder, const std::string& prefix) {
  std::vector<Tensor> tensors;
  for (;;) {
    const fs::path path = folder / fmt::format("{}_{}.pb", prefix, tensors.size());
    if (!fs::exists(path)) return tensors;
    tensors.push_back(tensor_from_proto(read_case_file<onnx::TensorProto>(path, "a tensor")));
  }
}

std::string not_in_table(const std::set<std::string>& operators) {
  return fmt::format("not in the operator table: {}", fmt::join(operators, ", "));
}

const char* kind_of(const onnx::TypeProto& type) {
  switch (type.value_case()) {
    case onnx::TypeProto::kTensorType:
      return nullptr;
    case onnx::TypeProto::kSequenceType:
      return type.sequence_type().elem_type().has_tensor_type() ? nullptr : "a sequence of what is no tensor";
    case onnx::TypeProto::kOptionalType:
      return kind_of(type.optional_type().elem_type());
    case onnx::TypeProto::kMapType:
      return "a map";
    default:
      return "no dense tensor";
  }
}

std::string run_data_set(const Graph& loaded, const OnnxDataSet& data, Executor& executor, const Tolerance& tolerance) {
  const Graph graph = prepare_graph(loaded, data.inputs, executor.capabilities());
  const std::vector<Tensor> found = run_graph(executor, graph, data.inputs);
  if (found.size() != data.outputs.size())
    return fmt::format("{} outputs, and {} in the case", found.size(), data.outputs.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    Tolerance allowed = tolerance;
    if (data.outputs[i].dtype() == DType::bf16) allowed.relative = std::max(allowed.relative, kBfloat16Relative);
    std::string differs = difference(loaded[loaded.outputs[i]].name, found[i], data.outputs[i], allowed, "in the case");
    if (!differs.empty()) return differs;
  }
  return {};
}

}  // namespace

OnnxCase::OnnxCase(fs::path folder, std::string name)
    : folder_(std::move(folder)), name_(std::move(name)), model_(std::make_shared<onnx::ModelProto>()) {
  *model_ = read_case_file<onnx::ModelProto>(folder_ / "model.onnx", "a model");
  if (!has_containers(*model_)) return;
  const std::vector<fs::path> data = data_folders();
  if (!not_applicable().empty() || data.empty()) return;
  source_ = std::make_shared<onnx::ModelProto>(*model_);
  fix_containers(*model_, data[0]);
}

std::vector<std::string> OnnxCase::operators() const {
  std::set<std::string> names;
  for_each_operator(*model_, [&](const std::string& op, const std::string& domain) {
    if (op != "Constant" || !domain.empty()) names.insert(qualified(op, domain));
  });
  if (names.empty()) names.insert("Constant");
  return {names.begin(), names.end()};
}

std::set<std::string> OnnxCase::operators_without_row() const {
  std::set<std::string> names;
  for_each_operator(*model_, [&](const std::string& op, const std::string& domain) {
    if ((op != "Constant" || !domain.empty()) && !find_op(op, domain)) names.insert(qualified(op, domain));
  });
  return names;
}

std::string OnnxCase::not_applicable() const {
  register_schemas();
  std::set<std::string> outside;
  for_each_operator(*model_, [&](const std::string& op, const std::string& domain) {
    if ((op != "Constant" || !domain.empty()) && !is_supported(op, domain)) outside.insert(qualified(op, domain));
  });
  if (!outside.empty()) return not_in_table(outside);
  for (const std::string& op : operators())
    if (kRandomOperators.contains(op)) return op + " draws at random";
  for (const OtherReading& other : kOtherReadings)
    if (last_part(name_) == other.name) return other.reason;
  for (const auto* values : {&model_->graph().input(), &model_->graph().output()})
    for (const onnx::ValueInfoProto& value : *values)
      if (const char* kind = kind_of(value.type())) return fmt::format("'{}' is {}", value.name(), kind);
  for (const auto& import : model_->opset_import())
    if (canonical_domain(import.domain()).empty() && import.version() < kOldestOnnxOpset)
      return fmt::format("operator set {}, older than {}", import.version(), kOldestOnnxOpset);
  return {};
}

Graph OnnxCase::load() const {
  return source_ ? load_model_from_bytes(model_->SerializeAsString(), folder_).graph
                 : load_model(folder_ / "model.onnx").graph;
}

Tolerance OnnxCase::tolerance() const {
  std::ifstream file(folder_ / "data.json");
  if (!file) return {.absolute = kAbsolute, .relative = kRelative};
  const nlohmann::json data = nlohmann::json::parse(file, nullptr, false);
  if (!data.is_object())
    throw_input_error("a JSON object in data.json", "'" + (folder_ / "data.json").string() + "'", "mend the file");
  return {.absolute = data.value("atol", kAbsolute), .relative = data.value("rtol", kRelative)};
}

std::vector<fs::path> OnnxCase::data_folders() const {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(folder_))
    if (entry.is_directory() && entry.path().filename().string().starts_with("test_data_set"))
      folders.push_back(entry.path());
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
  for (const auto& entry : fs::recursive_directory_iterator(root, error))
    if (entry.path().filename() == "model.onnx") folders.push_back(entry.path().parent_path());
  if (folders.empty())
    throw_input_error("a folder with ONNX test cases (CASE/model.onnx)", "none below '" + root.string() + "'",
                      "write ONNX's own with script/onnx_cases");
  std::sort(folders.begin(), folders.end());
  std::vector<OnnxCase> cases;
  for (const fs::path& folder : folders) cases.emplace_back(folder, fs::relative(folder, root).generic_string());
  return cases;
}

Graph prepare_graph(Graph graph, const std::vector<Tensor>& inputs, const Capabilities& capabilities) {
  if (graph.inputs.size() != inputs.size())
    throw_input_error(fmt::format("{} inputs, as the model has", graph.inputs.size()), std::to_string(inputs.size()),
                      "mend the case");
  InputShapes shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Value& input = graph[graph.inputs[i]];
    if (inputs[i].dtype() != input.dtype)
      throw_input_error(fmt::format("{} for input '{}'", name_of(input.dtype), input.name),
                        std::string(name_of(inputs[i].dtype())), "mend the case");
    shapes.by_name[input.name] = inputs[i].shape();
  }
  return run_pipeline(std::move(graph),
                      {bind_shapes(std::move(shapes)), fold_constants(), canonicalize(), fold_constants(),
                       eliminate_common_subexpressions(), fuse(capabilities.fusions), remove_dead_nodes()});
}

CheckReport check_onnx_case(const OnnxCase& onnx_case, Executor& executor) {
  CheckReport report{.op = fmt::format("{}", fmt::join(onnx_case.operators(), " ")),
                     .case_name = onnx_case.name(),
                     .kind = CheckKind::onnx_case};
  try {
    report.message = onnx_case.not_applicable();
    if (!report.message.empty()) {
      report.result = CheckResult::not_applicable;
      return report;
    }
    const Graph graph = onnx_case.load();
    const std::vector<OnnxDataSet> sets = onnx_case.data_sets();
    if (sets.empty()) report.message = "no test_data_set_0 beside the model";
    Tolerance tolerance = onnx_case.tolerance();
    const RoughCase* rough = find_rough_case(onnx_case.name());
    if (rough) tolerance.relative = std::max(tolerance.relative, rough->relative);
    for (const OnnxDataSet& data : sets) {
      report.message = run_data_set(graph, data, executor, tolerance);
      if (!report.message.empty()) break;
    }
    if (rough && report.message.empty()) {
      report.message = rough->reason;
      return report;
    }
  } catch (const Error& e) {
    if (e.required() == kSupportedModel) {
      report.result = CheckResult::not_applicable;
      report.message = not_in_table(onnx_case.operators_without_row());
      return report;
    }
    report.message = e.what();
  } catch (const std::exception& e) {
    report.message = e.what();
  }
  if (!report.message.empty()) report.result = CheckResult::failed;
  return report;
}

}  // namespace halfstep
