// Elementwise kernels on contiguous f32, f16 and bf16 arrays, computed in f32 and rounded once, to nearest even.
// A kernel is found when a step is compiled and called in every step: a call looks nothing up and allocates nothing.
// Found kernels are for the CPU this runs on. An output may be the same array as an input, but not overlap one
// otherwise.
#pragma once

#include <cstdint>
#include <span>

#include "executors/onednn/simd/broadcast.h"
#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// y = f(x), ONNX's definitions. NaN gives NaN in every one.
enum class UnaryOp {
  identity,
  relu,
  leaky_relu,  ///< alpha
  elu,         ///< alpha
  clip,        ///< alpha = min, beta = max (infinities where absent)
  neg,
  abs,
  sign,  ///< -1, 0, 1
  reciprocal,
  sqrt,
  exp,
  log,
  erf,
  sigmoid,
  hard_sigmoid,  ///< max(0, min(1, alpha x + beta))
  tanh,
  softplus,
  silu,        ///< x sigmoid(x)
  hard_swish,  ///< x max(0, min(1, x/6 + 0.5))
  gelu,        ///< x/2 (1 + erf(x / sqrt 2))
  gelu_tanh,   ///< the tanh approximation
};

enum class BinaryOp {
  add,
  sub,
  mul,
  div,
  min,             ///< NaN if either is
  max,             ///< NaN if either is
  pow,             ///< std::pow element by element, but for the powers 2 and 3
  relu_grad,       ///< 0 where b <= 0, else a: dy, y -> dx
  clip_grad,       ///< 0 where b < alpha or b > beta, else a: dy, x -> dx
  gelu_grad,       ///< a times the slope of gelu at b: dy, x -> dx
  gelu_tanh_grad,  ///< the same of gelu_tanh
};

/// The constants an operator names in its comment.
struct ElementwiseParams {
  float alpha = 0;
  float beta = 0;
};

/// One range on the calling thread.
using UnaryFn = void (*)(const void* x, void* y, std::int64_t n, ElementwiseParams params);
using BinaryFn = void (*)(const void* a, const void* b, void* y, std::int64_t n, ElementwiseParams params);

/// Callable when found: `if (kernel) kernel(x, y, n);`.
class UnaryKernel {
 public:
  UnaryKernel() = default;
  UnaryKernel(UnaryFn fn, std::size_t in_bytes, std::size_t out_bytes, ElementwiseParams params)
      : fn_(fn), in_bytes_(in_bytes), out_bytes_(out_bytes), params_(params) {}

  explicit operator bool() const { return fn_ != nullptr; }
  void operator()(const void* x, void* y, std::int64_t n) const;

 private:
  UnaryFn fn_ = nullptr;
  std::size_t in_bytes_ = 0, out_bytes_ = 0;
  ElementwiseParams params_;
};

class BinaryKernel {
 public:
  /// Both operands arrays; the first one, the second one a single element for the whole range.
  struct Rows {
    BinaryFn array_array = nullptr, scalar_array = nullptr, array_scalar = nullptr;
  };

  BinaryKernel() = default;
  BinaryKernel(Rows rows, std::size_t element_bytes, ElementwiseParams params)
      : rows_(rows), element_bytes_(element_bytes), params_(params) {}

  explicit operator bool() const { return rows_.array_array != nullptr; }
  /// n elements each.
  void operator()(const void* a, const void* b, void* y, std::int64_t n) const;
  /// Operands broadcast to the result: operand 0 of `shape` is a, operand 1 is b.
  void operator()(const Broadcast& shape, const void* a, const void* b, void* y) const;

 private:
  Rows rows_;
  std::size_t element_bytes_ = 0;
  ElementwiseParams params_;
};

/// Kernels of operands and result of one type; empty unless it is f32, f16 or bf16.
UnaryKernel find_unary(UnaryOp op, DType dtype, ElementwiseParams params = {});
BinaryKernel find_binary(BinaryOp op, DType dtype, ElementwiseParams params = {});

/// Conversion between f32, f16 and bf16 with the bits of base/half.h (a signalling NaN may come out quiet), and from
/// bool, u8, i32 and i64 to those and to i32, i64 and bool; empty for other pairs.
UnaryKernel find_cast(DType from, DType to);

/// y = cond ? a : b for elements of `element_bytes` (1, 2, 4 or 8) bytes; cond holds one byte an element, 0 or 1.
/// Operands 0, 1, 2 of `shape` are cond, a, b.
void where(const Broadcast& shape, std::size_t element_bytes, const void* cond, const void* a, const void* b, void* y);

}  // namespace halfstep::simd
