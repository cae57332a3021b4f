// Size and depth of a model after inlining its functions.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Throws Error(input) if inlining the model's functions would give more nodes, or more deeply nested subgraphs, than
/// any real model has, or if calls of functions are nested too deeply. Functions must be free of cycles, as ensured by
/// the checker.
void check_inlined_size(const onnx::ModelProto& model);

}  // namespace halfstep
