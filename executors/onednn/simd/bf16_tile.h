// Products of bf16 by the CPU's own instruction, AVX512-BF16, which Highway 1.0 does not know.
#pragma once

#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// Columns of a vector of sums.
inline constexpr std::int64_t kBf16Lanes = 16;
/// Of a tile, at most.
inline constexpr std::int64_t kBf16Rows = 6, kBf16Vectors = 4;

/// y = a b, or y += a b, summed in f32 over pairs of k.
struct Bf16Product {
  const bf16* a;  ///< pair p of row i at i a_row + p a_pair
  std::int64_t a_row, a_pair;
  const bf16* b;  ///< for each pair the two elements of each column of the tile side by side
  std::int64_t pairs;
  float* y;
  std::int64_t y_row;
  std::int64_t columns;  ///< that are written; the tile's last vector may have more
  bool adds = false;
};
using Bf16Tile = void (*)(const Bf16Product& product);

/// For 1 to kBf16Rows rows and 1 to kBf16Vectors vectors; null where the CPU lacks the instruction.
Bf16Tile find_bf16_tile(std::int64_t rows, std::int64_t vectors);

}  // namespace halfstep::simd
