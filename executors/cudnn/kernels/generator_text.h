// OneHot and Range.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Element i is `values[1]` where its place along the axis of `depth` is that of its index, else `values[0]`.
// clang-format off
HALFSTEP_SHARED_TEXT(kOneHotArgumentsText,
struct OneHotArguments {
  const void* indices;
  const void* values;
  void* y;
  long long count;
  long long depth;
  long long inner;
};)
HALFSTEP_SHARED_TEXT(kRangeArgumentsText,
struct RangeArguments {
  const void* start;
  const void* delta;
  void* y;
  long long count;
};)
// clang-format on

/// Indices are {index}, positions {position}; values are moved as {word}.
inline constexpr std::string_view kOneHotText = R"text(
extern "C" __global__ void __launch_bounds__(256) one_hot(const __grid_constant__ OneHotArguments a) {
  typedef {position} Position;
  const {word}* values = static_cast<const {word}*>(a.values);
  const Position step = (Position)gridDim.x * blockDim.x;
  for (Position i = (Position)blockIdx.x * blockDim.x + threadIdx.x; i < (Position)a.count; i += step) {
    const Position line = i / (Position)a.inner, outer = line / (Position)a.depth;
    const i64 place = (i64)(line - outer * (Position)a.depth);
    const i64 index = static_cast<const {index}*>(a.indices)[outer * (Position)a.inner + (i - line * (Position)a.inner)];
    static_cast<{word}*>(a.y)[i] = values[place == (index < 0 ? index + a.depth : index) ? 1 : 0];
  }
}
)text";

/// Numbers are {element}, and computed in {wide}.
inline constexpr std::string_view kRangeText = R"text(
extern "C" __global__ void __launch_bounds__(256) range(const __grid_constant__ RangeArguments a) {
  const {wide} start = ({wide})load(*static_cast<const {element}*>(a.start));
  const {wide} delta = ({wide})load(*static_cast<const {element}*>(a.delta));
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += (i64)gridDim.x * blockDim.x)
    static_cast<{element}*>(a.y)[i] = round_to<{element}>(({value})(start + ({wide})i * delta));
}
)text";

}  // namespace halfstep::cudnn
