// A newer operator set where bf16 needs one. Internal to conversion.
#pragma once

#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include "graph/dtype.h"

namespace halfstep::conversion {

/// Operators got bf16 in different versions of ai.onnx (MatMul in 13, Conv in 22). Declares the oldest version in which
/// all of the model's that are worth it have it, and rewrites what has another form there. Goes as far as it can where
/// an operator has no equivalent. What was done, and what could not be, is added to `notes`.
void raise_opset(onnx::ModelProto& model, DType half, std::vector<std::string>& notes);

}  // namespace halfstep::conversion
