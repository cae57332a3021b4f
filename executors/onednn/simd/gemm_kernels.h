// The parts of a matrix product that are compiled for each instruction set: packing, and tiles of the result.
#pragma once

#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// A tile: at most `rows` x `columns` elements of y, whose sums stay in registers.
struct GemmTile {
  const float* a;  ///< element (i, k) at i * a_row + k * a_step
  std::int64_t a_row, a_step;
  const float* b;  ///< element (k, j) at k * b_step + j
  std::int64_t b_step;
  std::int64_t depth;
  const float* plus;                   ///< is added to the sums; nullptr: nothing
  std::int64_t plus_row, plus_column;  ///< the latter 0 or 1
  void* y;
  std::int64_t y_row;  ///< elements
};

struct GemmKernels {
  std::int64_t rows, columns;  ///< of a whole tile
  /// The first m <= rows and n <= columns of a tile.
  void (*tile)(const GemmTile& tile, std::int64_t m, std::int64_t n);
};
/// Tiles that are written as f32, f16 or bf16.
GemmKernels find_gemm_kernels(DType result);

/// Copies element (k, j), at k * k_step + j * j_step of `from`, times `factor`, into panels of `width` columns, one
/// behind the other: in a panel, `width` numbers for each k, those beyond the n-th column zero.
using GemmPack = void (*)(const void* from, std::int64_t k_step, std::int64_t j_step, std::int64_t k, std::int64_t n,
                          std::int64_t width, float factor, float* to);
/// nullptr unless f32, f16 or bf16. `to` needs room for one vector behind its last element.
GemmPack find_gemm_pack(DType dtype);

}  // namespace halfstep::simd
