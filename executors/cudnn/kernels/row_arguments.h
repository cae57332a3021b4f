// What a generated kernel over rows is called with.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Row r begins where its place in `row_extents` steps to, and element j of it lies where its place in `extents` steps
/// to from there. A group of threads takes `chunk` elements of a row; what it gathers goes to `partial` where a row has
/// several chunks.
// clang-format off
HALFSTEP_SHARED_TEXT(kRowArgumentsText,
struct RowArguments {
  static constexpr int kAxes = 8, kIn = 6, kOut = 3;
  const void* in[kIn];
  void* out[kOut];
  void* partial;
  long long rows;
  long long length;
  long long chunk;
  long long chunks;
  long long row_extents[kAxes];
  long long row_steps[kAxes];
  long long extents[kAxes];
  long long steps[kAxes];
  int vectors;
};)
// clang-format on

/// Of Accumulator, identity() and join(a, b), which commutes; {lanes} threads share a row, next to each other.
inline constexpr std::string_view kJoinText = R"text(
static __device__ __forceinline__ Accumulator of_lane(Accumulator acc, int distance) {
  union Words { Accumulator acc; u32 at[sizeof(Accumulator) / 4]; } words;
  words.acc = acc;
#pragma unroll
  for (int w = 0; w < (int)(sizeof(Accumulator) / 4); ++w)
    words.at[w] = __shfl_xor_sync(0xffffffffu, words.at[w], distance);
  return words.acc;
}
template <int L>
static __device__ __forceinline__ Accumulator join_lanes(Accumulator acc) {
#pragma unroll
  for (int distance = (L < 32 ? L : 32) / 2; distance > 0; distance /= 2) acc = join(acc, of_lane(acc, distance));
  if (L <= 32) return acc;
  __shared__ Accumulator warps[8];
  __syncthreads();  // those before have been read
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = acc;
  __syncthreads();
  acc = warps[0];
#pragma unroll
  for (int w = 1; w < 8; ++w) acc = join(acc, warps[w]);
  return acc;
}
)text";

/// Rows next to each other by the threads of a warp, the eight warps of a block taking every eighth element.
inline constexpr std::string_view kJoinColumnsText = R"text(
static __device__ __forceinline__ Accumulator join_warps(Accumulator acc) {
  __shared__ Accumulator gathered[8][32];
  const int lane = threadIdx.x / 32, within = threadIdx.x % 32;
  __syncthreads();
  gathered[lane][within] = acc;
  __syncthreads();
  acc = gathered[0][within];
#pragma unroll
  for (int other = 1; other < 8; ++other) acc = join(acc, gathered[other][within]);
  return acc;
}
)text";

inline constexpr std::string_view kPlacesText = R"text(
template <int A>
static __device__ __forceinline__ i64 place(i64 i, const long long* extents, const long long* steps) {
  if (A == 0) return 0;
  Position left = (Position)i;
  i64 at = 0;
#pragma unroll
  for (int axis = A - 1; axis > 0; --axis) {
    const Position extent = (Position)extents[axis], quotient = left / extent;
    at += (i64)(left - quotient * extent) * steps[axis];
    left = quotient;
  }
  return at + (i64)left * steps[0];
}
)text";

}  // namespace halfstep::cudnn
