// The ONNX checker, with what deployed runtimes accept beyond it.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Runs the ONNX checker (without shape inference). Beyond what it accepts: outputs and inputs of any rank, outputs
/// whose type follows, initializers that are no inputs in every IR version, GroupNormalization of operator sets 18 to
/// 20, and LayerNormalization and SimplifiedLayerNormalization in operator sets that do not have them yet, as ONNX
/// Runtime saves them. The message is changed while it is looked at, and as it was afterwards. Throws what the ONNX
/// library throws (see `guarded`).
void check_message(onnx::ModelProto& model);

}  // namespace halfstep
