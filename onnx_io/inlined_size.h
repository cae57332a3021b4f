// How large and deep a model is once its functions are inlined.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Throws Error(input) when inlining the model's functions would give more nodes, or subgraphs nested deeper, than any
/// real model has, or when functions call functions too deep to follow. Functions must be free of cycles, as the
/// checker makes sure.
void check_inlined_size(const onnx::ModelProto& model);

}  // namespace halfstep
