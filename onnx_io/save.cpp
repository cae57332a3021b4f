#include <algorithm>
#include <map>
#include <new>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "onnx_io/convert.h"
#include "onnx_io/detached.h"
#include "onnx_io/external_data.h"
#include "onnx_io/message.h"
#include "onnx_io/opset.h"
#include "onnx_io/outside.h"
#include "onnx_io/patch.h"
#include "onnx_io/source_model.h"
#include "onnx_io/widen.h"
#include "ops/onnx_message.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/save_lazy.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

void check_to_be_written(onnx::ModelProto& model) {
  try {
    check_detached(model);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    throw_failure("a valid ONNX model to write", plain_onnx_message(e.what()),
                  "this is a defect of halfstep: please report it with the model");
  }
}

void write_model(onnx::ModelProto model, const std::filesystem::path& path, ExternalData external,
                 const OutsideTensors& outside) {
  check_to_be_written(model);
  const bool too_large = streamed_bytes(model, outside) > kMaxMessageBytes;
  if (too_large && external == ExternalData::never)
    throw_failure("a model of at most 2 GB in one file", fmt::format("{} bytes", streamed_bytes(model, outside)),
                  "let its tensors go to external data");
  if (external == ExternalData::never || (external == ExternalData::automatic && !too_large)) {
    write_model_in_one([&](FileWriter& writer) { write_streamed(model, outside, writer); }, path);
    return;
  }
  write_model_with_data(std::move(model), path, outside);
}

/// The form of the source's message in which all these parameters have names.
const onnx::ModelProto& message_with(const SourceModel& source, const std::vector<TensorInfo>& parameters) {
  std::vector<std::string> names;
  for (const TensorInfo& parameter : parameters) names.push_back(parameter.name);
  return source.inlined && !missing_tensors(source.model, names).empty() ? *source.inlined : source.model;
}

void attach(onnx::TensorProto& tensor, const Tensor& elements) {
  tensor.clear_external_data();
  tensor.clear_data_location();
  tensor.set_raw_data(elements.raw(), elements.bytes());
}

/// The message with all its elements, with zeros for the tensors that will be replaced.
onnx::ModelProto whole_message(const SourceModel& source, const std::vector<TensorInfo>& replaced) {
  onnx::ModelProto message = message_with(source, replaced);
  const std::map<int, std::string> given_up = replaced_whole(message, replaced);
  for (int i = 0; i < message.graph().initializer_size(); ++i) {
    onnx::TensorProto& tensor = *message.mutable_graph()->mutable_initializer(i);
    if (DetachedModel::index_of(tensor) < 0) continue;
    attach(tensor, given_up.contains(i) ? Tensor(static_cast<DType>(tensor.data_type()), shape_from_proto(tensor))
                                        : source.read(tensor));
  }
  return message;
}

/// A model with other parameters; large ones are read when they are written.
class TrainedModel {
 public:
  TrainedModel(const SourceModel& source, const LazyTensors& parameters)
      : message(message_with(source, parameters.types)), source_(source), parameters_(parameters) {
    register_schemas();
    std::set<std::string> late;
    for (const auto& [i, name] : replaced_whole(message, parameters.types)) {
      const std::ptrdiff_t index = DetachedModel::index_of(message.graph().initializer(i));
      if (index < 0) continue;
      late_[index] = name;
      late.insert(name);
    }
    NamedTensors now;
    for (const TensorInfo& parameter : parameters.types)
      if (!late.contains(parameter.name)) now[parameter.name] = parameters.read(parameter.name);
    const std::vector<std::string> touched = sources_of(message, now);
    for (onnx::TensorProto& tensor : *message.mutable_graph()->mutable_initializer())
      if (DetachedModel::index_of(tensor) >= 0 && std::ranges::find(touched, tensor.name()) != touched.end())
        attach(tensor, source.read(tensor));
    replace_tensors(message, now);
  }

  /// Replaces a marked initializer.
  Tensor elements(const onnx::TensorProto& tensor) const {
    const auto late = late_.find(DetachedModel::index_of(tensor));
    if (late == late_.end()) return source_.read(tensor);
    const Tensor value = parameters_.read(late->second);
    return as_stored(value, static_cast<DType>(tensor.data_type()));
  }
  OutsideTensors outside() const {
    return {.bytes = DetachedModel::bytes_of, .write = [this](const onnx::TensorProto& tensor, FileWriter& writer) {
              const Tensor value = elements(tensor);
              writer.write(value.raw(), value.bytes());
            }};
  }
  /// Moves all elements into the message.
  void attach_all() {
    for (onnx::TensorProto& tensor : *message.mutable_graph()->mutable_initializer())
      if (DetachedModel::index_of(tensor) >= 0) attach(tensor, elements(tensor));
  }

  onnx::ModelProto message;

 private:
  const SourceModel& source_;
  const LazyTensors& parameters_;
  std::map<std::ptrdiff_t, std::string> late_;  // parameters by the index of the marked initializer
};

}  // namespace

void save_trained(const SourceModel& source, const LazyTensors& parameters, const std::filesystem::path& path,
                  const SaveOptions& options) {
  TrainedModel model(source, parameters);
  if (options.form == OutputForm::inference) to_inference_form(model.message);
  const OutsideTensors outside = model.outside();
  write_model(std::move(model.message), path, options.external_data, outside);
}

void save_trained(const SourceModel& source, const NamedTensors& parameters, const std::filesystem::path& path,
                  const SaveOptions& options) {
  save_trained(source, LazyTensors::of(parameters), path, options);
}

std::shared_ptr<const SourceModel> without_values(const SourceModel& source,
                                                  const std::vector<TensorInfo>& parameters) {
  auto result = std::make_shared<SourceModel>(source);
  const onnx::ModelProto& message = message_with(source, parameters);
  for (const auto& [i, name] : replaced_whole(message, parameters))
    if (const std::ptrdiff_t index = DetachedModel::index_of(message.graph().initializer(i)); index >= 0)
      result->outside[index] = Tensor();
  return result;
}

std::size_t bytes_to_save(const SourceModel& source, const LazyTensors& parameters) {
  std::size_t largest = 0;
  for (const TensorInfo& parameter : parameters.types)
    largest = std::max(largest, bytes_of(parameter.dtype, static_cast<std::size_t>(parameter.shape.count())));
  return largest + message_with(source, parameters.types).SpaceUsedLong();
}

std::vector<std::string> storage_notes(const SourceModel& source, const LazyTensors& parameters) {
  std::map<DType, std::size_t> narrowed;
  std::vector<std::string> notes;
  const std::map<std::string, DType> stored = stored_types(message_with(source, parameters.types), parameters.types);
  for (const TensorInfo& parameter : parameters.types) {
    const auto type = stored.find(parameter.name);
    if (type == stored.end() || !is_half(type->second) || parameter.dtype == type->second) continue;
    ++narrowed[type->second];
    const Tensor tensor = parameters.read(parameter.name);
    if (const std::int64_t beyond = count_beyond(tensor, type->second); beyond > 0)
      notes.push_back(
          fmt::format("{} of the {} elements of '{}' are out of the range of {}, its type in the model: they are "
                      "clamped to its largest number",
                      beyond, tensor.count(), parameter.name, name_of(type->second)));
  }
  for (const auto& [type, count] : narrowed)
    notes.insert(notes.begin(), fmt::format("{} {} trained in f32 and written in {}, as the model stores {}", count,
                                            count == 1 ? "parameter was" : "parameters were", name_of(type),
                                            count == 1 ? "it" : "them"));
  return notes;
}

std::vector<std::string> storage_notes(const SourceModel& source, const NamedTensors& parameters) {
  return storage_notes(source, LazyTensors::of(parameters));
}

std::string trained_model_bytes(const SourceModel& source, const NamedTensors& parameters, OutputForm form,
                                DType widened) {
  const LazyTensors lazy = LazyTensors::of(parameters);
  onnx::ModelProto message;
  if (is_half(widened)) {  // before the replacement of parameters, which have the wider type
    register_schemas();
    message = whole_message(source, lazy.types);
    widen(message, widened);
    replace_tensors(message, parameters);
  } else {
    TrainedModel model(source, lazy);
    model.attach_all();
    message = std::move(model.message);
  }
  if (form == OutputForm::inference) to_inference_form(message);
  return serialize_message(message);
}

void check_can_save(const SourceModel& source, const std::vector<std::string>& parameter_names) {
  const onnx::ModelProto* form = &source.model;
  std::vector<std::string> missing = missing_tensors(*form, parameter_names);
  if (source.inlined && !missing.empty()) {
    form = &*source.inlined;
    missing = missing_tensors(*form, parameter_names);
  }
  if (missing.empty()) {
    // Better now than when all the work is done.
    onnx::ModelProto inference = *form;
    to_inference_form(inference);
    return check_to_be_written(inference);
  }
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
  write_model(std::move(model), path, external_data, {});
}

void check_output_path(const std::filesystem::path& path, std::uint64_t expected_bytes) {
  if (path.filename().empty())
    throw_input_error("the path of the file to write", "'" + path.string() + "', which names a folder",
                      "add the file's name, such as trained.onnx");
  check_writable(path, expected_bytes);
}

}  // namespace halfstep
