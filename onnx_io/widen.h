// A model message whose half type becomes f32. Internal to onnx_io.
#pragma once

#include <onnx/onnx_pb.h>

#include <halfstep/base/dtype.h>

namespace halfstep {

/// Tensors, declared types and the types that operators are told to give: all that are `half` become f32. The message
/// has all its tensor data. Casts that have nothing left to do stay.
void widen(onnx::ModelProto& model, DType half);

}  // namespace halfstep
