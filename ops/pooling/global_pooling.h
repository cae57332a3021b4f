// Rows of the operator table for the poolings over whole planes, part of pooling_ops(), and code shared with LpPool.
#pragma once

#include <span>
#include <string_view>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::span<const OpDef> global_pooling_ops();

inline constexpr std::string_view kMaximumTies =
    "of several maxima the first in row-major order is taken and gets the whole gradient, as in PyTorch; NaN is one, "
    "as in PyTorch and unlike in ONNX Runtime";

// The norm y = (sum |x|^p)^(1/p): its gradient is signed_power(x, p) * root_gradient(dy, y, p), broadcast.

/// Attribute p (default 2). Throws Error below 1.
double norm_order(const Node& node);
/// d|x|^p / dx without its factor p.
Expr signed_power(Expr x, std::int64_t p);
/// |x|^p, and x^(1/p) of what is not below 0.
Expr absolute_power(Expr x, std::int64_t p);
Expr root(Expr x, std::int64_t p);
/// dy * y^(1 - p), and 0 if y is 0: then every |x| is 0, too.
Expr root_gradient(Expr dy, Expr y, std::int64_t p);

}  // namespace halfstep::ops
