// Converts a half type of a model message to f32. Internal to onnx_io.
#pragma once

#include <onnx/onnx_pb.h>

#include <halfstep/base/dtype.h>

namespace halfstep {

/// All tensors, declared types and type attributes of operators that are `half` become f32. The message must contain
/// all tensor data. Casts that become redundant are kept.
void widen(onnx::ModelProto& model, DType half);

}  // namespace halfstep
