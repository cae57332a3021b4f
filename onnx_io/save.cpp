#include <algorithm>
#include <limits>
#include <new>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "onnx_io/check_message.h"
#include "onnx_io/convert.h"
#include "onnx_io/external_data.h"
#include "onnx_io/opset.h"
#include "onnx_io/patch.h"
#include "onnx_io/source_model.h"
#include "onnx_io/widen.h"
#include "ops/onnx_message.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

constexpr std::size_t kMaxMessageBytes = std::numeric_limits<std::int32_t>::max();

void write_model(onnx::ModelProto model, const std::filesystem::path& path, ExternalData external) {
  try {
    check_message(model);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    throw_failure("a valid ONNX model to write", plain_onnx_message(e.what()),
                  "this is a defect of halfstep: please report it with the model");
  }
  const bool too_large = model.ByteSizeLong() > kMaxMessageBytes;
  if (external == ExternalData::never || (external == ExternalData::automatic && !too_large)) {
    write_model_in_one(serialize_message(model), path);
    return;
  }
  write_model_with_data(std::move(model), path);
}

/// The form of the source's message in which all these parameters have their names.
const onnx::ModelProto& message_with(const SourceModel& source, const NamedTensors& parameters) {
  std::vector<std::string> names;
  for (const auto& [name, _] : parameters) names.push_back(name);
  return source.inlined && !missing_tensors(source.model, names).empty() ? *source.inlined : source.model;
}

onnx::ModelProto trained_model(const SourceModel& source, const NamedTensors& parameters, OutputForm form,
                               DType widened = DType::undefined) {
  register_schemas();
  onnx::ModelProto model = message_with(source, parameters);
  if (is_half(widened)) widen(model, widened);
  replace_tensors(model, parameters);
  if (form == OutputForm::inference) to_inference_form(model);
  return model;
}

}  // namespace

void save_trained(const SourceModel& source, const NamedTensors& parameters, const std::filesystem::path& path,
                  const SaveOptions& options) {
  write_model(trained_model(source, parameters, options.form), path, options.external_data);
}

std::vector<std::string> storage_notes(const SourceModel& source, const NamedTensors& parameters) {
  std::map<DType, std::size_t> narrowed;
  std::vector<std::string> notes;
  for (const auto& [name, type] : stored_types(message_with(source, parameters), parameters)) {
    const Tensor& tensor = parameters.at(name);
    if (!is_half(type) || tensor.dtype() == type) continue;
    ++narrowed[type];
    if (const std::int64_t beyond = count_beyond(tensor, type); beyond > 0)
      notes.push_back(
          fmt::format("{} of the {} elements of '{}' lie beyond {}, in which the model stores it: they are "
                      "written as its largest number",
                      beyond, tensor.count(), name, name_of(type)));
  }
  for (const auto& [type, count] : narrowed)
    notes.insert(notes.begin(), fmt::format("{} {} trained in f32 and written in {}, as the model stores {}", count,
                                            count == 1 ? "parameter was" : "parameters were", name_of(type),
                                            count == 1 ? "it" : "them"));
  return notes;
}

std::string trained_model_bytes(const SourceModel& source, const NamedTensors& parameters, OutputForm form,
                                DType widened) {
  return serialize_message(trained_model(source, parameters, form, widened));
}

void check_can_save(const SourceModel& source, const std::vector<std::string>& parameter_names) {
  const onnx::ModelProto& widest = source.inlined ? *source.inlined : source.model;
  std::vector<std::string> missing = missing_tensors(source.model, parameter_names);
  if (source.inlined && !missing.empty()) missing = missing_tensors(widest, parameter_names);
  if (missing.empty()) return;
  std::string list;
  for (const std::string& name : missing) list += (list.empty() ? "'" : ", '") + name + "'";
  throw_input_error("parameters that are initializers or constants of the model's main graph", list + ", which are not",
                    "freeze them, or export the model with its weights as initializers");
}

void save_model(const Graph& graph, const std::filesystem::path& path, ExternalData external_data) {
  register_schemas();
  onnx::ModelProto model = to_proto(graph);
  const std::int64_t opset = lowest_opset(graph);
  for (auto& import : *model.mutable_opset_import())
    if (import.domain().empty()) import.set_version(opset);
  model.set_ir_version(ir_version_of(opset));
  write_model(std::move(model), path, external_data);
}

void check_output_path(const std::filesystem::path& path, std::uint64_t expected_bytes) {
  if (path.filename().empty())
    throw_input_error("the path of the file to write", "'" + path.string() + "', which names a folder",
                      "add the file's name, such as trained.onnx");
  check_writable(path, expected_bytes);
}

}  // namespace halfstep
