// Products of matrices in f32 arithmetic, of operands stored in f32, f16 or bf16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/gemm_kernels.h"
#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// A matrix as it lies: element (i, j) at i * row + j * column, counted in elements.
struct GemmMatrix {
  DType dtype = DType::f32;
  std::int64_t row = 0, column = 0;
};

/// y = last(alpha a b + addend), of matrices [m, k] and [k, n]; no extent is 0.
struct GemmProblem {
  std::int64_t m = 0, n = 0, k = 0;
  GemmMatrix a, b;
  DType result = DType::f32;
  std::int64_t y_row = 0;  ///< rows of y are contiguous
  float alpha = 1;
  /// f32, or null when there is none; a step of 0 spreads it, and `column` is 0 or 1.
  bool has_addend = false;
  std::int64_t addend_row = 0, addend_column = 0;
  UnaryKernel last = {};  ///< of `result`, in place
  /// A stack of such products: where the matrices of each begin, in elements. All have the same addend.
  struct Offsets {
    std::int64_t a, b, y;
  };
  std::vector<Offsets> stack = {{0, 0, 0}};
};

/// A product that is ready to run. Operands are packed into blocks that fit the caches, and the sums of a tile of y
/// stay in registers; the order of additions of an element depends on k alone, so that results are the same for any
/// number of threads.
class Gemm {
 public:
  /// For teams of up to `threads`.
  Gemm(GemmProblem problem, int threads);

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scratch_floats_) * sizeof(float); }
  /// `scratch` is 64-byte aligned.
  void operator()(const void* a, const void* b, const float* addend, void* y, void* scratch) const;

 private:
  struct Block;
  template <class Team>
  void multiply(const Team& team, const GemmProblem::Offsets& at, const void* a, const void* b, const float* addend,
                void* y, float* scratch) const;
  void multiply_block(const Block& block, float* packed_a) const;

  GemmProblem p_;
  GemmKernels kernels_, partial_;  ///< of the result, and of sums that wait in f32 for the rest of k
  GemmPack pack_a_, pack_b_;
  int threads_;
  bool rows_direct_, columns_direct_, a_by_rows_, stacked_;
  std::int64_t depth_, rows_, columns_;              ///< of a block: of k, m and n
  std::int64_t packed_b_, packed_a_, partial_sums_;  ///< floats
  std::int64_t scratch_floats_;
};

}  // namespace halfstep::simd
