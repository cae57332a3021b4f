#include "executors/onednn/simd/bf16_gemm.h"

#include <algorithm>
#include <cstring>

#include "executors/onednn/simd/bf16_tile.h"
#include "executors/onednn/simd/parallel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace halfstep::simd {
namespace {

constexpr std::int64_t kPair = 2, kPanel = kBf16Vectors * kBf16Lanes;
constexpr std::int64_t kDepth = 256;  // of b's panel, which stays in the first cache

/// Columns of a matrix with so many, in whole vectors.
std::int64_t whole(std::int64_t columns) { return blocks_of(columns, kBf16Lanes) * kBf16Lanes; }
std::int64_t pairs_of(std::int64_t k) { return blocks_of(k, kPair); }

#if defined(__x86_64__)
#define HALFSTEP_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

unsigned first_of(std::int64_t count, std::int64_t most) {
  return (1U << static_cast<unsigned>(std::clamp<std::int64_t>(count, 0, most))) - 1U;
}

/// From rows of k, `step` apart: for each pair of them the two elements of each of n columns side by side, in `width`
/// columns. There are zeros where nothing is.
HALFSTEP_AVX512 void pack_rows(const bf16* from, std::int64_t step, std::int64_t k, std::int64_t n, std::int64_t width,
                               bf16* to) {
  for (std::int64_t i = 0; i < k; i += kPair, from += kPair * step, to += kPair * width) {
    const bool has_second = i + 1 < k;
    for (std::int64_t j = 0; j < width; j += kBf16Lanes) {
      const auto first = static_cast<__mmask16>(first_of(n - j, kBf16Lanes));
      const __mmask16 second = has_second ? first : 0;
      const __m512i low = _mm512_maskz_cvtepu16_epi32(first, _mm256_maskz_loadu_epi16(first, from + j));
      const __m512i high = _mm512_maskz_cvtepu16_epi32(second, _mm256_maskz_loadu_epi16(second, from + step + j));
      _mm512_storeu_si512(to + kPair * j, _mm512_or_si512(low, _mm512_maskz_slli_epi32(second, high, 16)));
    }
  }
}

/// The same from columns in which the elements of k lie side by side, `step` from one to the next.
HALFSTEP_AVX512 void pack_columns(const bf16* from, std::int64_t step, std::int64_t k, std::int64_t n,
                                  std::int64_t width, bf16* to) {
  constexpr std::int64_t kSide = 4;  // columns of a square, and pairs
  const std::int64_t pairs = pairs_of(k), line = kPair * width;
  for (std::int64_t j = 0; j < width; j += kSide) {
    for (std::int64_t i = 0; i < pairs; i += kSide) {
      const auto mask = static_cast<__mmask8>(first_of(k - i * kPair, kSide * kPair));
      const auto column = [&](std::int64_t c) HALFSTEP_AVX512 {
        const __mmask8 there = c < n ? mask : 0;
        return _mm_maskz_loadu_epi16(there, from + c * step + i * kPair);
      };
      const __m128i a = column(j), b = column(j + 1), c = column(j + 2), d = column(j + 3);
      const __m128i low = _mm_unpacklo_epi32(a, b), high = _mm_unpackhi_epi32(a, b);
      const __m128i low2 = _mm_unpacklo_epi32(c, d), high2 = _mm_unpackhi_epi32(c, d);
      const __m128i lines[kSide] = {_mm_unpacklo_epi64(low, low2), _mm_unpackhi_epi64(low, low2),
                                    _mm_unpacklo_epi64(high, high2), _mm_unpackhi_epi64(high, high2)};
      bf16* square = to + i * line + j * kPair;
      for (std::int64_t l = 0; l < std::min(kSide, pairs - i); ++l)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(square + l * line), lines[l]);
    }
  }
}
#undef HALFSTEP_AVX512

#else
void pack_rows(const bf16*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bf16*) {}
void pack_columns(const bf16*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bf16*) {}
#endif

/// Of an operand of k and n others, whose elements lie `k_step` and `step` apart.
void pack(const bf16* from, std::int64_t k_step, std::int64_t step, std::int64_t k, std::int64_t n, std::int64_t width,
          bf16* to) {
  if (step == 1)
    pack_rows(from, k_step, k, n, width, to);
  else
    pack_columns(from, step, k, n, width, to);
}

}  // namespace

bool Bf16Gemm::is_possible(const Bf16Problem& p) {
  const bool a = p.a.row == 1 || p.a.column == 1, b = p.b.row == 1 || p.b.column == 1;
  return a && b && find_bf16_tile(1, 1) != nullptr;
}

Bf16Gemm::Bf16Gemm(const Bf16Problem& problem) : p_(problem), depth_(std::min(p_.k, kDepth)) {
  // Pairs of a row are read where they lie, if none is half a pair.
  is_direct_ = p_.a.column == 1 && p_.k % kPair == 0;
  const std::int64_t pairs = pairs_of(depth_);
  packed_a_ = is_direct_ ? 0 : pairs * kPair * whole(p_.m);
  packed_b_ = pairs * kPair * kPanel;
}

void Bf16Gemm::operator()(const bf16* a, const bf16* b, float* y, void* scratch) const {
  bf16* const packed_b = static_cast<bf16*>(scratch);
  bf16* const packed_a = packed_b + packed_b_;
  const std::int64_t wide = whole(p_.m);
  for (std::int64_t k = 0; k < p_.k; k += depth_, a += depth_ * p_.a.column, b += depth_ * p_.b.row) {
    const std::int64_t depth = std::min(depth_, p_.k - k);
    if (!is_direct_) pack(a, p_.a.column, p_.a.row, depth, p_.m, wide, packed_a);
    Bf16Product part{.a = nullptr,
                     .a_row = is_direct_ ? p_.a.row : kPair,
                     .a_pair = is_direct_ ? kPair : kPair * wide,
                     .b = packed_b,
                     .pairs = pairs_of(depth),
                     .y = nullptr,
                     .y_row = p_.y_row,
                     .columns = 0,
                     .adds = p_.adds || k > 0};
    for (std::int64_t j = 0; j < p_.n; j += kPanel) {
      part.columns = std::min(kPanel, p_.n - j);
      const std::int64_t width = whole(part.columns);
      pack(b + j * p_.b.column, p_.b.row, p_.b.column, depth, part.columns, width, packed_b);
      for (std::int64_t i = 0; i < p_.m; i += kBf16Rows) {
        part.a = is_direct_ ? a + i * p_.a.row : packed_a + i * kPair;
        part.y = y + i * p_.y_row + j;
        find_bf16_tile(std::min(kBf16Rows, p_.m - i), width / kBf16Lanes)(part);
      }
    }
  }
}

}  // namespace halfstep::simd
