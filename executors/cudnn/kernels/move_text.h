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

/// Gather along an axis, and its gradient.
// clang-format off
HALFSTEP_SHARED_TEXT(kGatherArgumentsText,
struct GatherArguments {
  const void* data;
  const void* indices;
  void* result;
  long long count;
  long long index_count;
  long long extent;
  long long inner;
};)
// clang-format on

/// Of [outer, extent, inner] the elements [outer, index, inner]. An index out of range, for which no exception can be
/// raised, gives NaN, or -1.
inline constexpr std::string_view kGatherText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather(const __grid_constant__ GatherArguments a) {
  typedef {position} Position;
  const Position step = (Position)gridDim.x * blockDim.x;
  const Position inner = (Position)a.inner, indices = (Position)a.index_count;
  for (Position i = (Position)blockIdx.x * blockDim.x + threadIdx.x; i < (Position)a.count; i += step) {
    const Position row = i / inner, outer = row / indices;
    long long k = static_cast<const {index}*>(a.indices)[row - outer * indices];
    if (k < 0) k += a.extent;
    {element} value = ({element})~0ull;
    if (k >= 0 && k < a.extent)
      value = static_cast<const {element}*>(a.data)[((long long)outer * a.extent + k) * a.inner + (long long)(i - row * inner)];
    static_cast<{element}*>(a.result)[i] = value;
  }
}
)text";

/// The gradient of a Gather: a block for every index of [outer, index_count], which does nothing unless it is the first
/// of its value, and then adds up what was taken by all that are equal, in their order. So every sum has one order, and
/// no block writes where another does. The result is zero before.
inline constexpr std::string_view kGatherGradText = R"text(
static __device__ __forceinline__ i64 place_of(const GatherArguments& a, i64 j) {
  const i64 k = static_cast<const {index}*>(a.indices)[j];
  return k < 0 ? k + a.extent : k;
}
extern "C" __global__ void __launch_bounds__(256) gather_grad(const __grid_constant__ GatherArguments a) {
  __shared__ u32 equal[8];  // a bit for each of 256 indices
  const i64 lane = threadIdx.x;
  for (i64 block = blockIdx.x; block < a.count; block += gridDim.x) {
    const i64 outer = block / a.index_count, j = block - outer * a.index_count, k = place_of(a, j);
    int is_later = k < 0 || k >= a.extent;
    for (i64 m = lane; m < j; m += 256) is_later |= place_of(a, m) == k;
    if (__syncthreads_or(is_later)) continue;
    const {element}* dy = static_cast<const {element}*>(a.data) + outer * a.index_count * a.inner;
    {element}* dx = static_cast<{element}*>(a.result) + (outer * a.extent + k) * a.inner;
    for (i64 first = 0; first < a.inner; first += 256) {
      const i64 inner = first + lane;
      float sum = 0;
      for (i64 m = j; m < a.index_count; m += 256) {
        const u32 bits = __ballot_sync(0xffffffffu, m + lane < a.index_count && place_of(a, m + lane) == k);
        if (lane % 32 == 0) equal[lane / 32] = bits;
        __syncthreads();
        for (int w = 0; w < 8; ++w)
          for (u32 left = equal[w]; left; left &= left - 1)
            if (inner < a.inner) sum += load(dy[(m + w * 32 + __ffs((int)left) - 1) * a.inner + inner]);
        __syncthreads();
      }
      if (inner < a.inner) dx[inner] = round_to<{element}>(sum);
    }
  }
}
)text";

}  // namespace halfstep::cudnn
