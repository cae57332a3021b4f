// The functions that each instruction set's version of a source provides and a kernel is made of.
#pragma once

#include "executors/onednn/simd/elementwise.h"

namespace halfstep::simd {

/// nullptr, or empty rows, when the type is not f32, f16 or bf16, and when the formula has another number of operands.
UnaryFn find_unary_range(ops::Formula formula, DType dtype);
BinaryKernel::Rows find_binary_rows(ops::Formula formula, DType dtype);
UnaryFn find_cast_range(DType from, DType to);

}  // namespace halfstep::simd
