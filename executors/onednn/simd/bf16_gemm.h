// Products of matrices of bf16, on the calling thread, by the CPU's own instruction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "executors/onednn/simd/gemm.h"

namespace halfstep::simd {

/// y = a b, or y += a b, of matrices [m, k] and [k, n] of bf16, with sums in f32; no extent is 0.
struct Bf16Problem {
  std::int64_t m = 0, n = 0, k = 0;
  GemmMatrix a, b;
  std::int64_t y_row = 0;
  bool adds = false;
};

class Bf16Gemm {
 public:
  /// Whether the CPU has the instruction, and rows or columns of the operands are contiguous.
  static bool is_possible(const Bf16Problem& problem);

  explicit Bf16Gemm(const Bf16Problem& problem);

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(packed_a_ + packed_b_) * sizeof(bf16); }
  void operator()(const bf16* a, const bf16* b, float* y, void* scratch) const;

 private:
  Bf16Problem p_;
  std::int64_t depth_ = 0;                    ///< of k at a time
  bool is_direct_ = false;                    ///< a is read where it lies
  std::int64_t packed_a_ = 0, packed_b_ = 0;  ///< elements
};

}  // namespace halfstep::simd
