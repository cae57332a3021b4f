// Elements copied from places to places, whatever they are.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Element i of the extents, in row-major order, is read where `from` steps to and written where `to` does; axes of
/// extent 1 in front where there are fewer.
// clang-format off
HALFSTEP_SHARED_TEXT(kMoveArgumentsText,
struct MoveArguments {
  static constexpr int kAxes = 8;
  const void* from;
  void* to;
  long long count;
  long long extents[kAxes];
  long long from_steps[kAxes];
  long long to_steps[kAxes];
};)
// clang-format on

/// Of {axes} axes and elements that are as wide as {element}.
inline constexpr std::string_view kMoveText = R"text(
extern "C" __global__ void __launch_bounds__(256) move(const __grid_constant__ MoveArguments a) {
  typedef {position} Position;
  const Position step = (Position)gridDim.x * blockDim.x;
  for (Position i = (Position)blockIdx.x * blockDim.x + threadIdx.x; i < (Position)a.count; i += step) {
    Position left = i;
    long long from = 0, to = 0;
#pragma unroll
    for (int axis = {axes} - 1; axis > 0; --axis) {
      const Position extent = (Position)a.extents[axis], quotient = left / extent;
      const long long at = (long long)(left - quotient * extent);
      from += at * a.from_steps[axis];
      to += at * a.to_steps[axis];
      left = quotient;
    }
    from += (long long)left * a.from_steps[0];
    to += (long long)left * a.to_steps[0];
    static_cast<{element}*>(a.to)[to] = static_cast<const {element}*>(a.from)[from];
  }
}
)text";

}  // namespace halfstep::cudnn
