// Products of bf16 by the CPU's own instruction, AVX512-BF16, which Highway 1.0 does not know.
#pragma once

#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// Columns of a vector of sums.
inline constexpr std::int64_t kBf16Lanes = 16;

/// sums [rows, vectors * 16] = a b, summed in f32: `a` has contiguous rows, `a_row` elements apart, and `b` for each
/// pair of k the two elements of each column side by side.
using Bf16Tile = void (*)(const bf16* a, std::int64_t a_row, const bf16* b, std::int64_t pairs, float* sums);

/// For 1 or 4 rows and 1 to 4 vectors; null where the CPU lacks the instruction.
Bf16Tile find_bf16_tile(std::int64_t rows, std::int64_t vectors);

}  // namespace halfstep::simd
