// Products of matrices: what they are of, and who computes them.
#pragma once

#include "executors/onednn/layout.h"
#include "executors/onednn/simd/gemm.h"
#include "executors/onednn/tuning.h"

namespace halfstep::onednn {

/// A stack of matrices as a product reads or writes it: extents, and how far apart elements lie along each axis. The
/// last two axes are the matrix's.
struct Matrices {
  Dims dims, strides;

  Desc desc(DType dtype) const { return Desc(dims, data_type(dtype), strides); }
  std::int64_t rows() const { return dims.end()[-2]; }
  std::int64_t columns() const { return dims.back(); }
  void transpose();
};
Matrices row_major_matrices(Dims dims);

/// Whether oneDNN has AVX-512 to use, with bf16 arithmetic, and with tiles of matrices.
bool has_avx512();
bool has_avx512_bf16();
bool has_amx();

/// Whether the SIMD product of operands of this type does better than oneDNN's, for one product, a stack of them, or a
/// thread's own. That is so on CPUs without AVX-512 alone: there oneDNN multiplies halves by way of copies in f32,
/// takes longer for a call, or for each matrix of a stack, than for the arithmetic of a small one, and twice as long
/// where lines of a matrix lie a multiple of a page apart, since those share sets of the cache.
bool prefers_simd_product(const Matrices& a, const Matrices& b, DType type);

/// y = a b. Extents of 1 before the last two axes are spread.
simd::GemmProblem gemm_problem(const Matrices& a, const Matrices& b, const Matrices& y, DType type, DType result);

/// What measures the SIMD product, for teams of up to `threads`.
Candidate simd_candidate(const simd::GemmProblem& problem, int threads);

/// What a product is, for a tuner.
std::string product_key(const Matrices& a, const Matrices& b, const Matrices& y, DType type, DType result);

}  // namespace halfstep::onednn
