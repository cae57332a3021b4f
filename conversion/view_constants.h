// Tensors that a viewed model has for its values. Internal to conversion.
#pragma once

#include "conversion/model_view.h"
#include "onnx_io/detached.h"

namespace halfstep::conversion {

// Undefined tensors where there is none.

/// The tensor of a Constant node or an initializer, if it is numeric.
Tensor stored_tensor(const ModelView& view, const DetachedModel& model, ValueId value);
/// The same of f32.
Tensor constant_of(const ModelView& view, const DetachedModel& model, ValueId value);
/// The default value in f32 of an input, used if the caller gives none.
Tensor default_of(const DetachedModel& model, const ViewValue& value);
/// The element in f32 that a ConstantOfShape repeats.
Tensor fill_of(const ModelView& view, const DetachedModel& model, ValueId value);

}  // namespace halfstep::conversion
