// Raises the opset if bf16 requires it. Internal to conversion.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include "onnx_io/detached.h"
#include <halfstep/conversion/convert.h>

namespace halfstep::conversion {

/// The first opset with bf16, which was added to Cast.
inline constexpr std::int64_t kFirstBf16Opset = 13;

/// Operators support bf16 since different versions of ai.onnx (MatMul since 13, Conv since 22). Declares the oldest
/// version that supports bf16 for all nodes that would become half in the newest one, and rewrites all nodes for that
/// version. If a node has no equivalent, stops before that. Adds what was done, and what was not possible, to `notes`.
void raise_opset(onnx::ModelProto& model, const DetachedModel& source, const ConvertOptions& options,
                 std::vector<std::string>& notes);

}  // namespace halfstep::conversion
