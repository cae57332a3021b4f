// Phrases that gradient rules share.
#pragma once

#include "ops/builder.h"

namespace halfstep::ops {

/// The scalar 0 of x's type.
inline Expr zero_like(Expr x) { return x.builder().scalar(0, x.dtype()); }

/// ONNX Where.
inline Expr select(Expr condition, Expr x, Expr y) { return condition.builder().op("Where", {condition, x, y}); }

}  // namespace halfstep::ops
