// Reductions, accumulated in f32 over short runs and in double across them.
#pragma once

#include <cstddef>
#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// Extents of an array [reduced0, kept0, reduced1, kept1] that is reduced to [kept0, kept1]; 1 for axes it lacks:
///   all        {1, 1, n, 1}       last axis  {1, outer, n, 1}    first axis {1, 1, n, inner}  (bias gradient, NC)
///   one axis   {1, outer, n, inner}                              channels   {N, C, inner, 1}  (bias gradient, NCHW)
struct ReduceShape {
  std::int64_t reduced0 = 1, kept0 = 1, reduced1 = 1, kept1 = 1;

  std::int64_t outputs() const { return kept0 * kept1; }
  std::int64_t reduced() const { return reduced0 * reduced1; }
};

enum class ReduceOp {
  sum,
  mean,
  sum_square,
  max,  ///< NaN if any element is
  min,  ///< NaN if any element is
};

/// One run on the calling thread: n elements to one value, or `rows` rows of `columns` elements to one row. For a
/// sum of squares, sum and mean the partial result is a plain sum.
using ReduceRowFn = float (*)(const void* x, std::int64_t n);
using ReduceColumnsFn = void (*)(const void* x, std::int64_t rows, std::int64_t stride, std::int64_t columns,
                                 float* partial);
using ReduceStoreFn = void (*)(const float* x, void* y, std::int64_t n);

/// Found when a step is compiled; the shape is fixed then. Results do not depend on the number of threads.
/// An empty reduction (reduced() == 0) gives 0 for sums, NaN for the mean, -inf for max, inf for min.
class ReduceKernel {
 public:
  struct Functions {
    ReduceRowFn row = nullptr;
    ReduceColumnsFn columns = nullptr;
    ReduceStoreFn store = nullptr;
  };

  ReduceKernel() = default;
  ReduceKernel(Functions functions, ReduceOp op, std::size_t in_bytes, std::size_t out_bytes, ReduceShape shape);

  explicit operator bool() const { return functions_.row != nullptr; }
  /// Bytes of scratch a call needs, aligned to 64; may be 0.
  std::size_t scratch_bytes() const;
  void operator()(const void* x, void* y, void* scratch) const;

 private:
  Functions functions_;
  ReduceOp op_ = ReduceOp::sum;
  std::size_t in_bytes_ = 0, out_bytes_ = 0;
  ReduceShape shape_;
};

/// Input f32, f16 or bf16; output of the same type, or f32. Empty for other pairs.
ReduceKernel find_reduce(ReduceOp op, DType in, DType out, ReduceShape shape);

}  // namespace halfstep::simd
