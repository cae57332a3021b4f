// Tensors of a converted model: what the message says of them, and their elements, converted when they are written.
// Internal to conversion.
#pragma once

#include <onnx/onnx_pb.h>

#include "onnx_io/detached.h"
#include "onnx_io/external_data.h"

namespace halfstep::conversion {

/// Makes an f32 tensor of the message one of type `to`, its elements no larger than `limit` (0: as they are). Elements
/// that lie outside the message stay where they are until they are written.
void retype(onnx::TensorProto& tensor, DType to, double limit);

/// Elements of a tensor of the message that lie in `source`, in the type the message gives.
OutsideTensors outside_tensors(const DetachedModel& source);

/// Puts the elements of all tensors (or only of small ones and those that are no initializers) into the message.
void attach(onnx::ModelProto& model, const DetachedModel& source, bool also_initializers);

}  // namespace halfstep::conversion
