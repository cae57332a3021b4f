// Kernels that go along one axis of [outer, extent, inner].
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

// clang-format off
HALFSTEP_SHARED_TEXT(kScanArgumentsText,
struct ScanArguments {
  const void* x;
  void* y;
  long long lanes;
  long long extent;
  long long inner;
  int is_exclusive;
  int is_reversed;
};)
// clang-format on

/// Running sums, each of a thread's own.
inline constexpr std::string_view kScanText = R"text(
static __device__ __forceinline__ float times(float a, float b) { return a * b; }
template <class T> static __device__ __forceinline__ T times(T a, T b) { return (T)((u64)a * (u64)b); }
extern "C" __global__ void __launch_bounds__(256) scan(const __grid_constant__ ScanArguments a) {
  const {element}* x = static_cast<const {element}*>(a.x);
  {element}* y = static_cast<{element}*>(a.y);
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 lane = (i64)blockIdx.x * blockDim.x + threadIdx.x; lane < a.lanes; lane += step) {
    const i64 outer = lane / a.inner, first = outer * a.extent * a.inner + (lane - outer * a.inner);
    auto total = load(x[first]);
    total = {unit};
    for (i64 k = 0; k < a.extent; ++k) {
      const i64 at = first + (a.is_reversed ? a.extent - 1 - k : k) * a.inner;
      const auto before = total;
      total = {join}(total, load(x[at]));
      y[at] = round_to<{element}>(a.is_exclusive ? before : total);
    }
  }
}
)text";

/// Element o of the result's axis is the sum of elements taps[k] of the operand's, times weights[k], for k from
/// starts[o] to starts[o + 1].
// clang-format off
HALFSTEP_SHARED_TEXT(kResampleArgumentsText,
struct ResampleArguments {
  const void* from;
  void* to;
  const int* starts;
  const int* taps;
  const float* weights;
  long long count;
  long long from_extent;
  long long to_extent;
  long long inner;
};)
// clang-format on

inline constexpr std::string_view kResampleText = R"text(
extern "C" __global__ void __launch_bounds__(256) resample(const __grid_constant__ ResampleArguments a) {
  const {from}* x = static_cast<const {from}*>(a.from);
  typedef {position} Position;
  const Position step = (Position)gridDim.x * blockDim.x;
  for (Position i = (Position)blockIdx.x * blockDim.x + threadIdx.x; i < (Position)a.count; i += step) {
    const Position row = i / (Position)a.inner, outer = row / (Position)a.to_extent;
    const int o = (int)(row - outer * (Position)a.to_extent);
    const i64 first = (i64)outer * a.from_extent * a.inner + (i64)(i - row * (Position)a.inner);
    float sum = 0;
    for (int k = a.starts[o]; k < a.starts[o + 1]; ++k) sum += a.weights[k] * load(x[first + a.taps[k] * a.inner]);
    static_cast<{to}*>(a.to)[i] = round_to<{to}>(sum);
  }
}
)text";

}  // namespace halfstep::cudnn
