#include "executors/onednn/simd/bf16_tile.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace halfstep::simd {
#if defined(__x86_64__)
namespace {

// Sums stay in registers only if the loops over them are unrolled, which -O2 does not do by itself.
template <int kRows, int kVectors>
__attribute__((target("avx512f,avx512bf16"))) void tile(const bf16* a, std::int64_t a_row, const bf16* b,
                                                        std::int64_t pairs, float* sums) {
  constexpr int kSums = kRows * kVectors;
  constexpr std::int64_t kPair = 2;
  __m512 sum[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sum[i] = _mm512_setzero_ps();
  for (std::int64_t k = 0; k < pairs; ++k, a += kPair, b += kVectors * kPair * kBf16Lanes) {
    __m512i factor[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      std::int32_t pair = 0;
      std::memcpy(&pair, a + r * a_row, sizeof pair);
      factor[r] = _mm512_set1_epi32(pair);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      const __m512i column = _mm512_loadu_si512(b + i % kVectors * kPair * kBf16Lanes);
      sum[i] = _mm512_dpbf16_ps(sum[i], reinterpret_cast<__m512bh>(factor[i / kVectors]),
                                reinterpret_cast<__m512bh>(column));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) _mm512_storeu_ps(sums + i * kBf16Lanes, sum[i]);
}

}  // namespace

Bf16Tile find_bf16_tile(std::int64_t rows, std::int64_t vectors) {
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  if (!has || vectors < 1 || vectors > 4) return nullptr;
  constexpr Bf16Tile kOne[] = {&tile<1, 1>, &tile<1, 2>, &tile<1, 3>, &tile<1, 4>};
  constexpr Bf16Tile kFour[] = {&tile<4, 1>, &tile<4, 2>, &tile<4, 3>, &tile<4, 4>};
  return rows == 1 ? kOne[vectors - 1] : rows == 4 ? kFour[vectors - 1] : nullptr;
}
#else
Bf16Tile find_bf16_tile(std::int64_t, std::int64_t) { return nullptr; }
#endif

}  // namespace halfstep::simd
