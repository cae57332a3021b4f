// The ONNX checker, extended to models that deployed runtimes accept.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Runs the ONNX checker (without shape inference). Also accepts: outputs and inputs of any rank, outputs whose type
/// can be inferred, initializers that are not inputs in every IR version, GroupNormalization of opsets 18 to 20, and
/// LayerNormalization and SimplifiedLayerNormalization in opsets that do not define them yet, as saved by ONNX Runtime.
/// The message is modified during the check and restored afterwards. Throws the exceptions of the ONNX library (see
/// `guarded`).
void check_message(onnx::ModelProto& model);

}  // namespace halfstep
