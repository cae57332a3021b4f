// Operators as other ones, so that executors need no kernels for them.
#pragma once

#include <halfstep/base/api.h>
#include <halfstep/ops/gradient_util.h>

namespace HALFSTEP_API halfstep {
namespace ops {

struct WrittenOut {
  std::string_view op;
  /// The only result; empty for a node that stays.
  Expr (*result)(Builder& b, const Node& node);
  /// Before differentiation, so that gradients are those of the other operators. Else the operator's own rule is
  /// better.
  bool before_gradient = false;
};
/// The row of a node, or nullptr.
const WrittenOut* written_out(const Node& node);

/// What `write` makes of the first operand in the type that sums are computed in; empty where it is empty or unknown.
template <class F>
Expr in_wide(Builder& b, const Node& node, const F& write) {
  const Expr x = b.expr(node.inputs[0]);
  if (!x.shape().is_static() || x.shape().count() == 0) return {};
  return b.cast(write(b.cast(x, wide(x.dtype()))), x.dtype());
}

Expr einsum_by_products(Builder& b, const Node& node);
Expr lp_normalization_by_norm(Builder& b, const Node& node);
Expr mean_variance_normalization_by_means(Builder& b, const Node& node);
Expr lrn_by_pooling(Builder& b, const Node& node);
Expr lp_pool_by_average(Builder& b, const Node& node);
Expr global_lp_pool_by_sum(Builder& b, const Node& node);
Expr reverse_sequence_by_gather(Builder& b, const Node& node);

}  // namespace ops
}  // namespace halfstep
