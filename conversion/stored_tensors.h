// Tensors of a converted model: their descriptions in the message, and their elements, which are converted when they
// are written. Internal to conversion.
#pragma once

#include <onnx/onnx_pb.h>

#include "onnx_io/detached.h"
#include "onnx_io/external_data.h"

namespace halfstep::conversion {

/// Changes an f32 tensor of the message to type `to`, with elements clamped to `limit` (0: not clamped). Elements
/// outside of the message stay where they are until they are written.
void retype(onnx::TensorProto& tensor, DType to, double limit);

/// Elements of a tensor of the message that are stored in `source`, in the type of the message.
OutsideTensors outside_tensors(const DetachedModel& source);

/// Moves the elements of all tensors (or only of small ones and of those that are not initializers) into the message.
void attach(onnx::ModelProto& model, const DetachedModel& source, bool also_initializers);

}  // namespace halfstep::conversion
