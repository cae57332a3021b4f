// Helpers shared by gradient rules.
#pragma once

#include <halfstep/base/api.h>
#include <halfstep/ops/builder.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// The scalar 0 of x's type.
inline Expr zero_like(Expr x) { return x.builder().scalar(0, x.dtype()); }

/// The type in which gradient rules compute sums and roots: f32 for a half type, otherwise `dtype`.
inline DType wide(DType dtype) { return is_half(dtype) ? DType::f32 : dtype; }

/// ONNX Where.
inline Expr select(Expr condition, Expr x, Expr y) { return condition.builder().op("Where", {condition, x, y}); }

}  // namespace ops
}  // namespace halfstep
