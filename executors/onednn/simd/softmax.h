// Softmax and LogSoftmax over the middle axis of [outer, n, inner], and their gradients; f32, f16, bf16, computed in
// f32. Exponentials below the normal numbers of f32 count as 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

enum class SoftmaxOp { softmax, log_softmax };

/// x, y of one dtype. y may be x.
struct SoftmaxKernel {
  /// `rows` rows of n contiguous elements.
  using RowsFn = void (*)(const void* x, void* y, std::int64_t rows, std::int64_t n);
  /// [n, inner]: the axis is the first one.
  using PlaneFn = void (*)(const void* x, void* y, std::int64_t n, std::int64_t inner);

  explicit operator bool() const { return rows != nullptr; }
  void operator()(const void* x, void* y, std::int64_t outer, std::int64_t n, std::int64_t inner = 1) const;

  RowsFn rows = nullptr;
  PlaneFn plane = nullptr;
  std::size_t element_bytes = 0;
};

/// softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - exp(y) sum(dy), sums over the axis. dx may be dy.
struct SoftmaxGradKernel {
  using RowsFn = void (*)(const void* dy, const void* y, void* dx, std::int64_t rows, std::int64_t n);
  using PlaneFn = void (*)(const void* dy, const void* y, void* dx, std::int64_t n, std::int64_t inner);

  explicit operator bool() const { return rows != nullptr; }
  void operator()(const void* dy, const void* y, void* dx, std::int64_t outer, std::int64_t n,
                  std::int64_t inner = 1) const;

  RowsFn rows = nullptr;
  PlaneFn plane = nullptr;
  std::size_t element_bytes = 0;
};

/// Empty unless dtype is f32, f16 or bf16.
SoftmaxKernel find_softmax(SoftmaxOp op, DType dtype);
SoftmaxGradKernel find_softmax_grad(SoftmaxOp op, DType dtype);

}  // namespace halfstep::simd
