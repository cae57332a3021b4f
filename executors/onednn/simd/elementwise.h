// Elementwise kernels on contiguous f32, f16 and bf16 arrays, computed in f32 and rounded once, to nearest even.
// A kernel is found when a step is compiled and called in every step: a call looks nothing up and allocates nothing.
// Found kernels are for the CPU this runs on. An output may be the same array as an input, but not overlap one
// otherwise.
#pragma once

#include <cstdint>
#include <span>

#include "executors/onednn/simd/broadcast.h"
#include "ops/elementwise/formulas.h"
#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// The formula's parameters, in their order.
struct ElementwiseParams {
  float alpha = 0;
  float beta = 0;
};

/// One range on the calling thread.
using UnaryFn = void (*)(const void* x, void* y, std::int64_t n, ElementwiseParams params);
using BinaryFn = void (*)(const void* a, const void* b, void* y, std::int64_t n, ElementwiseParams params);

/// Callable when found: `if (kernel) kernel(x, y, n);`.
struct UnaryKernel {
  explicit operator bool() const { return fn != nullptr; }
  void operator()(const void* x, void* y, std::int64_t n) const;

  UnaryFn fn = nullptr;
  std::size_t in_bytes = 0, out_bytes = 0;
  ElementwiseParams params;
};

struct BinaryKernel {
  /// Both operands arrays; the first one, the second one a single element for the whole range.
  struct Rows {
    BinaryFn array_array = nullptr, scalar_array = nullptr, array_scalar = nullptr;
  };

  explicit operator bool() const { return rows.array_array != nullptr; }
  /// n elements each.
  void operator()(const void* a, const void* b, void* y, std::int64_t n) const;
  /// Operands broadcast to the result: operand 0 of `shape` is a, operand 1 is b.
  void operator()(const Broadcast& shape, const void* a, const void* b, void* y) const;

  Rows rows;
  std::size_t in_bytes = 0, out_bytes = 0;
  ElementwiseParams params;
};

/// Kernels of the formula on operands of one type, which is the result's where that is not truth; empty unless it is
/// f32, f16 or bf16, and where the formula has another number of operands.
UnaryKernel find_unary(ops::Formula formula, DType dtype, ElementwiseParams params = {});
BinaryKernel find_binary(ops::Formula formula, DType dtype, ElementwiseParams params = {});

/// Conversion between f32, f16 and bf16, also of one to itself, with the bits of base/half.h (a signalling NaN may come
/// out quiet), and from bool, u8, i32 and i64 to those and to i32, i64 and bool; empty for other pairs.
UnaryKernel find_cast(DType from, DType to);

/// y = cond ? a : b for elements of `element_bytes` (1, 2, 4 or 8) bytes; cond holds one byte an element, 0 or 1.
/// Operands 0, 1, 2 of `shape` are cond, a, b.
void where(const Broadcast& shape, std::size_t element_bytes, const void* cond, const void* a, const void* b, void* y);

}  // namespace halfstep::simd
