// Numbers in ascending order, equal ones in the order in which they stood: by digits of 8 bits, the lowest first.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// `keys` are not negative, and `order` holds the place that each had at first. `counts` are by digit, then by chunk.
// clang-format off
HALFSTEP_SHARED_TEXT(kOrderArgumentsText,
struct OrderArguments {
  static constexpr int kChunk = 2048;
  const int* keys;
  const int* order;
  int* next_keys;
  int* next_order;
  unsigned int* counts;
  long long count;
  long long chunks;
  int shift;
  int is_first;
};)
// clang-format on

inline constexpr std::string_view kDigitText = R"text(
static __device__ __forceinline__ u32 digit_of(const OrderArguments& a, int key) { return (u32)(key >> a.shift) & 255u; }
)text";

/// How often every digit stands in each chunk.
inline constexpr std::string_view kCountDigitsText = R"text(
extern "C" __global__ void __launch_bounds__(256) count_digits(const __grid_constant__ OrderArguments a) {
  __shared__ u32 found[256];
  for (i64 chunk = blockIdx.x; chunk < a.chunks; chunk += gridDim.x) {
    __syncthreads();  // the counts before have been written
    found[threadIdx.x] = 0;
    __syncthreads();
    const i64 first = chunk * OrderArguments::kChunk;
    for (i64 i = first + threadIdx.x; i < first + OrderArguments::kChunk && i < a.count; i += 256)
      atomicAdd(&found[digit_of(a, a.keys[i])], 1u);
    __syncthreads();
    a.counts[threadIdx.x * a.chunks + chunk] = found[threadIdx.x];
  }
}
)text";

/// Where each chunk's numbers of every digit begin. One block.
inline constexpr std::string_view kPlaceDigitsText = R"text(
extern "C" __global__ void __launch_bounds__(256) place_digits(const __grid_constant__ OrderArguments a) {
  __shared__ u32 sums[2][256];
  u32* counts = a.counts + threadIdx.x * a.chunks;
  u32 sum = 0;
  for (i64 chunk = 0; chunk < a.chunks; ++chunk) sum += counts[chunk];
  sums[0][threadIdx.x] = sum;
  __syncthreads();
  int now = 0;
  for (int distance = 1; distance < 256; distance *= 2, now = 1 - now) {
    sums[1 - now][threadIdx.x] =
        sums[now][threadIdx.x] + (threadIdx.x >= distance ? sums[now][threadIdx.x - distance] : 0u);
    __syncthreads();
  }
  u32 before = sums[now][threadIdx.x] - sum;
  for (i64 chunk = 0; chunk < a.chunks; ++chunk) {
    const u32 here = counts[chunk];
    counts[chunk] = before;
    before += here;
  }
}
)text";

/// Puts every number in its place.
inline constexpr std::string_view kOrderDigitsText = R"text(
extern "C" __global__ void __launch_bounds__(256) order_digits(const __grid_constant__ OrderArguments a) {
  __shared__ u32 begin[256], of_warps[8][256];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (i64 chunk = blockIdx.x; chunk < a.chunks; chunk += gridDim.x) {
    const i64 first = chunk * OrderArguments::kChunk;
    __syncthreads();  // the chunk before is done
    begin[threadIdx.x] = a.counts[threadIdx.x * a.chunks + chunk];
    for (i64 at = first; at < first + OrderArguments::kChunk && at < a.count; at += 256) {
      const i64 i = at + threadIdx.x;
      const bool is_there = i < a.count;
      const int key = is_there ? a.keys[i] : 0;
      const u32 digit = digit_of(a, key);
      u32 equal = __ballot_sync(0xffffffffu, is_there);  // of the warp
#pragma unroll
      for (int bit = 0; bit < 8; ++bit) {
        const u32 ones = __ballot_sync(0xffffffffu, digit >> bit & 1u);
        equal &= digit >> bit & 1u ? ones : ~ones;
      }
      const u32 before = (u32)__popc(equal & ((1u << lane) - 1u));
#pragma unroll
      for (int w = 0; w < 8; ++w) of_warps[w][threadIdx.x] = 0;
      __syncthreads();
      if (is_there && before == 0) of_warps[warp][digit] = (u32)__popc(equal);
      __syncthreads();
      if (is_there) {
        u32 to = begin[digit] + before;
        for (int w = 0; w < warp; ++w) to += of_warps[w][digit];
        a.next_keys[to] = key;
        a.next_order[to] = a.is_first ? (int)i : a.order[i];
      }
      __syncthreads();
#pragma unroll
      for (int w = 0; w < 8; ++w) begin[threadIdx.x] += of_warps[w][threadIdx.x];
    }
  }
}
)text";

}  // namespace halfstep::cudnn
