#include "conversion/view_constants.h"

#include <cstddef>
#include <vector>

namespace halfstep::conversion {

Tensor constant_of(const ModelView& view, const DetachedModel& model, ValueId v) {
  return view.values[v].is_wide() ? stored_tensor(view, model, v) : Tensor();
}

Tensor stored_tensor(const ModelView& view, const DetachedModel& model, ValueId v) {
  const ViewValue& value = view.values[v];
  if (value.is_input) return {};
  if (value.initializer) return model.read(*value.initializer);
  if (value.producer == kNone) return {};
  const ViewNode& node = view.nodes[static_cast<std::size_t>(value.producer)];
  if (!node.is("Constant")) return {};
  for (const auto& attribute : node.proto->attribute()) {
    if (attribute.name() == "value" && attribute.has_t()) return model.read(attribute.t());
    if (attribute.name() == "value_float") return Tensor::scalar(attribute.f());
    if (attribute.name() == "value_floats")
      return Tensor::of(std::vector<float>(attribute.floats().begin(), attribute.floats().end()));
  }
  return {};
}

Tensor default_of(const DetachedModel& model, const ViewValue& value) {
  const bool has_one = value.is_input && value.initializer;
  return has_one && value.initializer->data_type() == onnx::TensorProto::FLOAT ? model.read(*value.initializer)
                                                                               : Tensor();
}

Tensor fill_of(const ModelView& view, const DetachedModel& model, ValueId v) {
  const int producer = view.values[v].producer;
  if (producer == kNone) return {};
  const ViewNode& node = view.nodes[static_cast<std::size_t>(producer)];
  if (!node.is("ConstantOfShape")) return {};
  for (const auto& attribute : node.proto->attribute())
    if (attribute.name() == "value" && attribute.t().data_type() == onnx::TensorProto::FLOAT)
      return model.read(attribute.t());
  return {};
}

}  // namespace halfstep::conversion
