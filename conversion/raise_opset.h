// A newer operator set where bf16 needs one. Internal to conversion.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include "graph/dtype.h"

namespace halfstep::conversion {

/// The first operator set that has bf16; Cast got it there.
inline constexpr std::int64_t kFirstBf16Opset = 13;

/// Operators got bf16 in different versions of ai.onnx (MatMul in 13, Conv in 22). Declares the oldest version in which
/// all of the model's that are worth it have it, and rewrites what has another form there. Goes as far as it can where
/// an operator has no equivalent. `io_changes`: inputs or outputs of the model are to become half. What was done, and
/// what could not be, is added to `notes`.
void raise_opset(onnx::ModelProto& model, DType half, bool io_changes, std::vector<std::string>& notes);

}  // namespace halfstep::conversion
