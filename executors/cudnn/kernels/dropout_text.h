// Dropout by counters: ops/random/philox_dropout.h as a text.
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
// clang-format on

/// A thread takes four elements, which one application of Philox4x32-10 gives numbers for.
inline constexpr std::string_view kDropoutText = R"text(
extern "C" __global__ void __launch_bounds__(256) dropout(const __grid_constant__ DropoutArguments a) {
  const u64 counter = (u64)*a.counter;
  const i64 blocks = (a.count + 3) / 4, step = (i64)gridDim.x * blockDim.x;
  for (i64 block = (i64)blockIdx.x * blockDim.x + threadIdx.x; block < blocks; block += step) {
    u32 c[4] = {(u32)block, (u32)counter, (u32)(counter >> 32), a.stream};
    u32 key[2] = {(u32)a.seed, (u32)(a.seed >> 32)};
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
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const i64 i = 4 * block + k;
      if (i >= a.count) break;
      const bool is_kept = (c[k] >> 8) >= a.threshold;
      if (a.y)
        static_cast<{element}*>(a.y)[i] =
            round_to<{element}>(is_kept ? load(static_cast<const {element}*>(a.x)[i]) * a.scale : 0.0f);
      if (a.mask) a.mask[i] = is_kept;
    }
  }
}
)text";

}  // namespace halfstep::cudnn
