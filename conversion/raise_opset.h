// A newer operator set where bf16 needs one. Internal to conversion.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include "onnx_io/detached.h"
#include <halfstep/conversion/convert.h>

namespace halfstep::conversion {

/// The first operator set that has bf16; Cast got it there.
inline constexpr std::int64_t kFirstBf16Opset = 13;

/// Operators got bf16 in different versions of ai.onnx (MatMul in 13, Conv in 22). Declares the oldest version in which
/// all nodes have it that would become half in the newest, and writes all nodes as that version does. Goes as far as it
/// can where a node has no equivalent. What was done, and what could not be, is added to `notes`.
void raise_opset(onnx::ModelProto& model, const DetachedModel& source, const ConvertOptions& options,
                 std::vector<std::string>& notes);

}  // namespace halfstep::conversion
