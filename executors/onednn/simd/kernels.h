// The functions that each instruction set's version of a source provides and a kernel is made of.
#pragma once

#include "executors/onednn/simd/elementwise.h"

namespace halfstep::simd {

/// nullptr, or empty rows, when the type is not f32, f16 or bf16.
UnaryFn find_unary_range(UnaryOp op, DType dtype);
BinaryKernel::Rows find_binary_rows(BinaryOp op, DType dtype);
UnaryFn find_cast_range(DType from, DType to);

}  // namespace halfstep::simd
