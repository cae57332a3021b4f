#include "onnx_io/message.h"

#include <fstream>
#include <stdexcept>
#include <utility>

#include <onnx/defs/parser.h>
#include <onnx/inliner/inliner.h>

#include "base/path_state.h"
#include "onnx_io/convert.h"
#include "onnx_io/function_defaults.h"
#include "onnx_io/guard_functions.h"
#include "onnx_io/inlined_size.h"
#include "onnx_io/proto_walk.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

constexpr std::int64_t kOldestIr = 3;

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

std::string read_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!is_there(path)) {
    const bool missing = status.type() == std::filesystem::file_type::not_found;
    throw_input_error("an ONNX model file",
                      missing ? "'" + path.string() + "', which does not exist" : why_not_there(path),
                      missing ? "check the path" : "check the permissions of the file and of the folders above");
  }
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

onnx::ModelProto parse_message(std::string_view bytes) {
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

onnx::ModelProto parse_text(std::string_view text) {
  onnx::ModelProto model;
  guarded("a model in ONNX's text form", [&] {
    const std::string copy(text);
    onnx::OnnxParser parser(copy.c_str());
    const auto status = parser.Parse(model);
    if (!status.IsOK()) throw std::runtime_error(status.ErrorMessage());
  });
  return model;
}

void refuse_external_data(onnx::ModelProto& model) {
  for_each_tensor(model, [](const onnx::TensorProto& tensor) {
    if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
      throw_input_error("a model without external data, since no folder is given",
                        "external data for tensor '" + tensor.name() + "'", "load the model from its file");
  });
}

onnx::ModelProto read_message(const std::filesystem::path& path) { return parse_message(read_file(path)); }

void check_versions(const onnx::ModelProto& model, std::int64_t oldest_opset) {
  auto refuse = [](const std::string& what, std::int64_t low, std::int64_t high, std::int64_t found) {
    throw_input_error(what + " " + std::to_string(low) + " to " + std::to_string(high), std::to_string(found),
                      "export the model again with one of these, or convert it with onnx.version_converter");
  };
  if (model.ir_version() < kOldestIr || model.ir_version() > onnx::IR_VERSION)
    refuse("an ONNX IR version of", kOldestIr, onnx::IR_VERSION, model.ir_version());
  for (const auto& import : model.opset_import()) {
    const std::string domain = canonical_domain(import.domain());
    if (domain.empty() && (import.version() < oldest_opset || import.version() > kOnnxOpset))
      refuse("an operator set (opset) of ai.onnx of", oldest_opset, kOnnxOpset, import.version());
    if (domain == kOwnDomain && (import.version() < 1 || import.version() > kOwnOpset))
      refuse("an operator set of ai.halfstep of", 1, kOwnOpset, import.version());
    if (import.version() < 1 || import.version() > std::numeric_limits<std::int32_t>::max())
      refuse("a version of operator set '" + domain + "' of", 1, std::numeric_limits<std::int32_t>::max(),
             import.version());
  }
}

void inline_functions(onnx::ModelProto& model) {
  check_inlined_size(model);
  fill_function_defaults(model);
  check_inlined_size(model);
  check_all_before_inference(model);
  guarded("model-local functions that can be inlined", [&] { onnx::inliner::InlineLocalFunctions(model, true); });
}

}  // namespace halfstep
