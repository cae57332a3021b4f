// Random numbers by counters: ops/random/philox_dropout.h and ops/random/random_numbers.h as texts.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// An element is kept when the upper 24 bits of its number are at least `threshold`.
// clang-format off
HALFSTEP_SHARED_TEXT(kDropoutArgumentsText,
struct DropoutArguments {
  const void* x;
  const long long* counter;
  void* y;
  bool* mask;
  long long count;
  unsigned long long seed;
  unsigned int stream;
  unsigned int threshold;
  float scale;
};)
/// Element i is first + spread * x, where x is normal, or uniform and the result less than `end`.
HALFSTEP_SHARED_TEXT(kRandomArgumentsText,
struct RandomArguments {
  const long long* counter;
  float* y;
  long long count;
  unsigned long long seed;
  unsigned int stream;
  float first;
  float spread;
  float end;
  float below_end;
};)
// clang-format on

/// Numbers of 32 bits for four elements, by Philox4x32-10.
inline constexpr std::string_view kPhiloxText = R"text(
struct Numbers { u32 of[4]; };
static __device__ __forceinline__ Numbers philox(i64 block, u64 counter, u32 stream, u64 seed) {
  u32 c[4] = {(u32)block, (u32)counter, (u32)(counter >> 32), stream};
  u32 key[2] = {(u32)seed, (u32)(seed >> 32)};
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 p = (u64)0xD2511F53u * c[0], q = (u64)0xCD9E8D57u * c[2];
    c[0] = (u32)(q >> 32) ^ c[1] ^ key[0];
    c[1] = (u32)q;
    c[2] = (u32)(p >> 32) ^ c[3] ^ key[1];
    c[3] = (u32)p;
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return {{c[0], c[1], c[2], c[3]}};
}
)text";

/// A thread takes four elements.
inline constexpr std::string_view kDropoutText = R"text(
extern "C" __global__ void __launch_bounds__(256) dropout(const __grid_constant__ DropoutArguments a) {
  const u64 counter = (u64)*a.counter;
  const i64 blocks = (a.count + 3) / 4, step = (i64)gridDim.x * blockDim.x;
  for (i64 block = (i64)blockIdx.x * blockDim.x + threadIdx.x; block < blocks; block += step) {
    const Numbers numbers = philox(block, counter, a.stream, a.seed);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const i64 i = 4 * block + k;
      if (i >= a.count) break;
      const bool is_kept = (numbers.of[k] >> 8) >= a.threshold;
      if (a.y)
        static_cast<{element}*>(a.y)[i] =
            round_to<{element}>(is_kept ? load(static_cast<const {element}*>(a.x)[i]) * a.scale : 0.0f);
      if (a.mask) a.mask[i] = is_kept;
    }
  }
}
)text";

/// A thread writes four elements; {normal}: "true" or "false". Normal numbers by Box and Muller, in double as
/// everywhere, so that a run's numbers do not depend on where it trains but for rare last bits: the device's log, sin
/// and cos may differ from the host's by an ulp or two.
inline constexpr std::string_view kRandomText = R"text(
extern "C" __global__ void __launch_bounds__(256) random_numbers(const __grid_constant__ RandomArguments a) {
  const u64 counter = (u64)*a.counter;
  const i64 blocks = (a.count + 3) / 4, step = (i64)gridDim.x * blockDim.x;
  for (i64 block = (i64)blockIdx.x * blockDim.x + threadIdx.x; block < blocks; block += step) {
    const Numbers bits = philox(block, counter, a.stream, a.seed);
    Vector<float, 4> y;
#pragma unroll
    for (int k = 0; k < 4; ++k) y.at[k] = (float)(bits.of[k] >> 8) * 5.9604644775390625e-08f;
    if ({normal}) {
#pragma unroll
      for (int k = 0; k < 4; k += 2) {
        const double radius = sqrt(-2.0 * log(1.0 - (double)y.at[k]));
        const double angle = 6.283185307179586 * (double)y.at[k + 1];
        y.at[k] = (float)(radius * cos(angle));
        y.at[k + 1] = (float)(radius * sin(angle));
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      y.at[k] = a.first + a.spread * y.at[k];
      if (!{normal} && y.at[k] == a.end) y.at[k] = a.below_end;
    }
    if (4 * block + 4 <= a.count) {
      write<float, 4>(a.y, 4 * block, y);
      continue;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (4 * block + k < a.count) a.y[4 * block + k] = y.at[k];
  }
}
)text";

}  // namespace halfstep::cudnn
