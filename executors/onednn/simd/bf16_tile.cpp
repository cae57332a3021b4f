#include "executors/onednn/simd/bf16_tile.h"

#include <array>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace halfstep::simd {
#if defined(__x86_64__)
namespace {

// Sums stay in registers only if the loops over them are unrolled, which -O2 does not do by itself.
template <int kRows, int kVectors>
__attribute__((target("avx512f,avx512bf16"))) void tile(const Bf16Product& p) {
  constexpr int kSums = kRows * kVectors;
  constexpr std::int64_t kPair = 2;
  __m512 sum[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) sum[i] = _mm512_setzero_ps();
  const bf16 *a = p.a, *b = p.b;
  const std::int64_t a_row = p.a_row, a_pair = p.a_pair;
  for (std::int64_t k = p.pairs; k > 0; --k, a += a_pair, b += kVectors * kPair * kBf16Lanes) {
    __m512i column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = _mm512_loadu_si512(b + v * kPair * kBf16Lanes);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      std::int32_t pair = 0;
      std::memcpy(&pair, a + r * a_row, sizeof pair);
      const __m512i factor = _mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        sum[r * kVectors + v] = _mm512_dpbf16_ps(sum[r * kVectors + v], reinterpret_cast<__m512bh>(factor),
                                                 reinterpret_cast<__m512bh>(column[v]));
    }
  }
  // Masks are for the last vector alone: what is stored by one waits for memory when it is read again.
  const auto rest = static_cast<unsigned>(p.columns - (kVectors - 1) * kBf16Lanes);
  const bool is_whole = rest == kBf16Lanes;
  const auto mask = static_cast<__mmask16>((1U << rest) - 1U);
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) {
    float* to = p.y + i / kVectors * p.y_row + i % kVectors * kBf16Lanes;
    if (is_whole || i % kVectors + 1 < kVectors) {
      if (p.adds) sum[i] = _mm512_add_ps(sum[i], _mm512_loadu_ps(to));
      _mm512_storeu_ps(to, sum[i]);
    } else {
      if (p.adds) sum[i] = _mm512_add_ps(sum[i], _mm512_maskz_loadu_ps(mask, to));
      _mm512_mask_storeu_ps(to, mask, sum[i]);
    }
  }
}

template <int... kIndex>
constexpr auto all_tiles(std::integer_sequence<int, kIndex...>) {
  return std::array<Bf16Tile, sizeof...(kIndex)>{&tile<kIndex / kBf16Vectors + 1, kIndex % kBf16Vectors + 1>...};
}

}  // namespace

Bf16Tile find_bf16_tile(std::int64_t rows, std::int64_t vectors) {
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  static constexpr auto kTiles = all_tiles(std::make_integer_sequence<int, kBf16Rows * kBf16Vectors>());
  if (!has || rows < 1 || rows > kBf16Rows || vectors < 1 || vectors > kBf16Vectors) return nullptr;
  return kTiles[static_cast<std::size_t>((rows - 1) * kBf16Vectors + vectors - 1)];
}
#else
Bf16Tile find_bf16_tile(std::int64_t, std::int64_t) { return nullptr; }
#endif

}  // namespace halfstep::simd
