// Size and depth of a model after inlining its functions.
#pragma once

#include <cstdint>

#include <onnx/onnx_pb.h>

namespace halfstep {

/// By how many bytes a model may grow when its functions are inlined. Those of real models hold few constants.
inline constexpr std::uint64_t kMaxInlinedGrowth = std::uint64_t{512} << 20;

/// Throws Error(input) when inlining the model's functions would give more nodes or bytes, or subgraphs nested deeper,
/// than any real model has, or when functions call functions too deep to follow. Functions must be free of cycles, as
/// the checker makes sure.
void check_inlined_size(const onnx::ModelProto& model);

}  // namespace halfstep
