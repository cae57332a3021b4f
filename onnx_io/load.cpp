#include "onnx_io/load.h"

#include <fstream>
#include <limits>
#include <unordered_map>
#include <utility>

#include <onnx/checker.h>
#include <onnx/defs/parser.h>
#include <onnx/inliner/inliner.h>

#include "graph/error.h"
#include "onnx_io/convert.h"
#include "onnx_io/external_data.h"
#include "onnx_io/lift.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/source_model.h"
#include "onnx_io/unsupported.h"
#include "ops/op_def.h"

namespace halfstep {
namespace {

constexpr std::int64_t kOldestIr = 3;
constexpr std::uint64_t kMaxMessageBytes = std::numeric_limits<std::int32_t>::max();
// A few nested functions can multiply to any number of nodes; the largest real models have some ten thousand.
constexpr std::uint64_t kMaxInlinedNodes = 5'000'000;

constexpr std::pair<std::string_view, std::string_view> kOtherFormats[] = {
    {"PK\x03\x04", "a ZIP archive, such as a PyTorch or Keras file"},
    {"\x89HDF", "an HDF5 file, such as an old Keras model"},
    {"version https://git-lfs", "a Git LFS pointer: the model itself was not fetched"},
    {"\x80\x02", "a Python pickle, such as an old PyTorch file"},
    {"\x1f\x8b", "a gzip file: unpack it first"},
};

[[noreturn]] void not_a_model(const std::string& found) {
  throw_input_error("a whole ONNX model file", found, "export or download the model again");
}

onnx::ModelProto parse_bytes(std::string_view bytes) {
  if (bytes.empty()) not_a_model("an empty file");
  if (bytes.size() > kMaxMessageBytes)
    not_a_model(std::to_string(bytes.size()) +
                " bytes, more than the 2 GB that a protobuf message may have (larger "
                "models keep their tensors in external data)");
  onnx::ModelProto model;
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    for (const auto& [magic, what] : kOtherFormats)
      if (bytes.starts_with(magic)) not_a_model(std::string(what));
    not_a_model(std::to_string(bytes.size()) +
                " bytes that are no whole protobuf message (cut short, or another format)");
  }
  if (!model.has_graph()) not_a_model("a protobuf message without a graph");
  return model;
}

void check_versions(const onnx::ModelProto& model) {
  auto refuse = [](const std::string& what, std::int64_t low, std::int64_t high, std::int64_t found) {
    throw_input_error(what + " " + std::to_string(low) + " to " + std::to_string(high), std::to_string(found),
                      "export the model again with one of these, or convert it with onnx.version_converter");
  };
  if (model.ir_version() < kOldestIr || model.ir_version() > onnx::IR_VERSION)
    refuse("an ONNX IR version of", kOldestIr, onnx::IR_VERSION, model.ir_version());
  for (const auto& import : model.opset_import()) {
    const std::string domain = canonical_domain(import.domain());
    if (domain.empty() && (import.version() < kOldestOnnxOpset || import.version() > kOnnxOpset))
      refuse("an operator set (opset) of ai.onnx of", kOldestOnnxOpset, kOnnxOpset, import.version());
    if (domain == kOwnDomain && (import.version() < 1 || import.version() > kOwnOpset))
      refuse("an operator set of ai.halfstep of", 1, kOwnOpset, import.version());
    if (import.version() < 1 || import.version() > std::numeric_limits<std::int32_t>::max())
      refuse("a version of operator set '" + domain + "' of", 1, std::numeric_limits<std::int32_t>::max(),
             import.version());
  }
}

// Runs a part of the ONNX library, which reports what it dislikes by exceptions of several types.
template <class F>
void guarded(const std::string& required, const F& work) {
  try {
    work();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw_failure(required, "not enough memory for it", "use a machine with more memory");
  } catch (const std::exception& e) {
    throw_input_error(required, e.what(), "mend the model where the message says, or export it again");
  }
}

// Counts what inlining would give before doing it. Functions are free of cycles: the checker saw to that.
class InlinedSize {
 public:
  explicit InlinedSize(onnx::ModelProto& model) {
    for (auto& function : *model.mutable_functions()) functions_[key(function)] = &function;
  }

  template <class Owner>
  std::uint64_t count(Owner& owner) {
    std::uint64_t total = 0;
    for_each_node(owner, [&](const onnx::NodeProto& node) {
      auto it = functions_.find(node.domain() + ':' + node.op_type() + ':' + node.overload());
      total = std::min(total + (it == functions_.end() ? 1 : of_function(*it->second)), kMaxInlinedNodes + 1);
    });
    return total;
  }

 private:
  static std::string key(const onnx::FunctionProto& f) { return f.domain() + ':' + f.name() + ':' + f.overload(); }

  std::uint64_t of_function(onnx::FunctionProto& function) {
    if (auto it = counts_.find(&function); it != counts_.end()) return it->second;
    return counts_[&function] = count(function);
  }

  std::unordered_map<std::string, onnx::FunctionProto*> functions_;
  std::unordered_map<const onnx::FunctionProto*, std::uint64_t> counts_;
};

void inline_functions(onnx::ModelProto& model) {
  if (InlinedSize(model).count(*model.mutable_graph()) > kMaxInlinedNodes)
    throw_input_error(
        "a model of at most " + std::to_string(kMaxInlinedNodes) + " nodes once its functions are inlined", "more",
        "export the model without nested functions");
  guarded("model-local functions that can be inlined", [&] { onnx::inliner::InlineLocalFunctions(model, true); });
}

void report_unsupported(onnx::ModelProto& model) {
  UnsupportedOperators unsupported;
  for_each_node(*model.mutable_graph(), [&](const onnx::NodeProto& node) {
    const std::string domain = canonical_domain(node.domain());
    if ((node.op_type() == "Constant" && domain.empty()) || is_supported(node.op_type(), domain)) return;
    unsupported.add(domain, node.op_type(),
                    !node.name().empty() || node.output_size() == 0 ? node.name() : "giving " + node.output(0));
  });
  unsupported.report();
}

LoadedModel load_from(onnx::ModelProto model, const std::filesystem::path& folder, bool has_folder) {
  register_schemas();
  check_versions(model);
  if (!has_folder)
    for_each_tensor(model, [](const onnx::TensorProto& tensor) {
      if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
        throw_input_error("a model that holds all its data, since it has no folder",
                          "external data for tensor '" + tensor.name() + "'", "load the model from its file");
    });
  // Before the checker, which would itself look for the files.
  read_external_data(model, folder);
  guarded("a valid ONNX model", [&] { onnx::checker::check_model(model); });

  auto source = std::make_shared<SourceModel>();
  source->model = std::move(model);
  if (source->model.functions_size() > 0) {
    source->inlined = source->model;
    inline_functions(*source->inlined);
  }
  onnx::ModelProto& flat = source->inlined ? *source->inlined : source->model;
  report_unsupported(flat);
  LoadedModel loaded;
  guarded("a model that halfstep can hold", [&] {
    loaded.graph = from_proto(flat);
    lift_to_supported(loaded.graph);
    verify(loaded.graph);
  });
  loaded.source = std::move(source);
  return loaded;
}

std::string read_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status))
    throw_input_error("an ONNX model file", "'" + path.string() + "', which does not exist", "check the path");
  if (!std::filesystem::is_regular_file(status))
    throw_input_error("an ONNX model file",
                      "'" + path.string() + "', which is " +
                          (std::filesystem::is_directory(status) ? "a folder" : "not a regular file"),
                      "name the .onnx file itself");
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (!error && size > kMaxMessageBytes)
    not_a_model(std::to_string(size) + " bytes, more than the 2 GB that a protobuf message may have");
  std::ifstream file(path, std::ios::binary);
  std::string bytes(error ? 0 : size, '\0');
  if (error || !file.read(bytes.data(), static_cast<std::streamsize>(size)))
    throw_failure("a readable model file", "'" + path.string() + "' cannot be read", "check its permissions");
  return bytes;
}

}  // namespace

LoadedModel load_model(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  try {
    return load_from(parse_bytes(bytes), path.parent_path(), true);
  } catch (const Error& e) {
    throw Error(e.kind(), e.required(), e.found() + " (in '" + path.string() + "')", e.remedy());
  }
}

LoadedModel load_model_from_bytes(std::string_view bytes, const std::filesystem::path& folder) {
  return load_from(parse_bytes(bytes), folder, !folder.empty());
}

LoadedModel parse_model(std::string_view text) {
  onnx::ModelProto model;
  guarded("a model in ONNX's text form", [&] {
    const std::string copy(text);
    onnx::OnnxParser parser(copy.c_str());
    const auto status = parser.Parse(model);
    if (!status.IsOK()) throw std::runtime_error(status.ErrorMessage());
  });
  return load_from(std::move(model), {}, false);
}

}  // namespace halfstep
