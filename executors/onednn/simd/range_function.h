// The function of an elementwise operator on a range of elements, whatever the operator: what chains are made of.
#pragma once

#include <cstdint>

#include "executors/onednn/simd/elementwise.h"

namespace halfstep::simd {

/// Operands that move by steps of 0 or 1 elements: the plain loops of comparisons, logic and integers, and a selection.
using PlainFn = void (*)(const void* a, std::int64_t step_a, const void* b, std::int64_t step_b, void* y,
                         std::int64_t n);
using SelectFn = void (*)(const std::uint8_t* cond, std::int64_t step_c, const void* a, std::int64_t step_a,
                          const void* b, std::int64_t step_b, void* y, std::int64_t n);
/// nullptr unless an element takes 1, 2, 4 or 8 bytes.
SelectFn find_select(std::size_t element_bytes);

/// On the calling thread, n elements of `y`. Steps are 0 or 1: an operand with step 0 is one element for all of them.
/// The only operand of a unary function has step 1. `y` may be one of the operands, but not overlap one otherwise.
struct RangeFunction {
  // One of these is there.
  UnaryFn unary = nullptr;
  BinaryKernel::Rows binary = {};
  PlainFn plain = nullptr;  ///< a function of one operand sees it twice
  SelectFn select = nullptr;

  int operands = 0;  ///< how many it reads
  ElementwiseParams params = {};

  explicit operator bool() const { return operands > 0; }
  void operator()(const void* const* in, const std::int64_t* step, void* y, std::int64_t n) const;
};

inline void RangeFunction::operator()(const void* const* in, const std::int64_t* step, void* y, std::int64_t n) const {
  const int second = operands > 1 ? 1 : 0;
  if (unary) return unary(in[0], y, n, params);
  if (plain) return plain(in[0], step[0], in[second], step[second], y, n);
  if (select) return select(static_cast<const std::uint8_t*>(in[0]), step[0], in[1], step[1], in[2], step[2], y, n);
  if (step[0] == 0) return binary.scalar_array(in[0], in[1], y, n, params);
  if (step[1] == 0) return binary.array_scalar(in[0], in[1], y, n, params);
  binary.array_array(in[0], in[1], y, n, params);
}

}  // namespace halfstep::simd
