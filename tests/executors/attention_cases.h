// Attention in the forms that matter to a kernel, forward and backward as one graph.
#pragma once

#include "ops/attention/fused_attention.h"
#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {

using ops::FusedAttentionConfig;
using ops::RowView;

enum class Lies { apart, together, grouped };

struct AttentionCase {
  const char* what;
  Lies lies;
  std::int64_t batch, heads, queries, keys, head;
  bool causal = false, mask = false;
};
// Blocks of queries begin at 48 K scores, causal ones at 64 queries.
inline constexpr AttentionCase kAttentionCases[] = {
    {"one query", Lies::apart, 1, 1, 1, 1, 1},
    {"short", Lies::apart, 2, 3, 5, 7, 6, false, true},
    {"one tensor", Lies::together, 3, 2, 33, 33, 16},
    {"one tensor, causal, several blocks", Lies::together, 1, 2, 200, 200, 8, true},
    {"many keys", Lies::apart, 1, 2, 41, 3000, 8, false, true},
    {"more keys than queries, causal", Lies::apart, 1, 1, 10, 40, 4, true},
    {"fewer keys than queries, causal", Lies::apart, 1, 2, 150, 20, 4, true},
    {"shared keys", Lies::grouped, 2, 2, 70, 70, 8, true, true},
};

/// Forward and backward.
inline TestGraph attention_graph(const AttentionCase& a, DType dtype) {
  const std::int64_t n = a.batch, h = a.heads, l = a.queries, m = a.keys, d = a.head;
  FusedAttentionConfig c;
  c.batch = n, c.heads = h, c.group = a.lies == Lies::grouped ? 3 : 1, c.queries = l, c.keys = m;
  c.head = c.value_head = d;
  c.scale = 0.4F;
  c.causal = a.causal;
  const std::int64_t all = h * c.group;  // heads of queries
  TestGraph t;
  std::vector<Expr> in;
  c.q = {0, {all * l * d, c.group * l * d, l * d, d}};
  c.k = {0, {m * h * d, d, 0, h * d}};
  c.v = {0, {h * m * d, m * d, 0, d}};
  if (a.lies == Lies::together) {
    const std::int64_t row = 3 * h * d;
    c.q = {0, {l * row, d, 0, row}};
    c.k = {h * d, {l * row, d, 0, row}};
    c.v = {2 * h * d, {l * row, d, 0, row}};
    in = {t.input(dtype, {n, l, row}), Expr(), Expr()};
  } else {
    in = {t.input(dtype, {n, all, l, d}), t.input(dtype, {n, m, h * d}), t.input(dtype, {n, h, m, d})};
  }
  c.y = {0, {l * all * d, c.group * d, d, all * d}};
  c.y_shape = {n, l, all * d};
  if (a.mask) {
    c.mask = {0, {l * m, 0, 0, m}};
    c.mask_column = 1;
    in.push_back(t.input(DType::f32, {n, 1, l, m}));
  } else {
    in.push_back(Expr());
  }
  const std::vector<Expr> y = t.b.multi("FusedAttention", kOwnDomain, in, 2, c.attributes());
  const Expr dy = t.input(dtype, Shape(c.y_shape));
  const std::vector<Expr> gradients = t.b.multi(
      "AttentionGrad", kOwnDomain, {dy, in[0], in[1], in[2], in[3], y[1], y[0]}, in[1] ? 3 : 1, c.attributes());
  t.output(y[0]);
  t.output(y[1]);
  for (const Expr g : gradients) t.output(g);
  return t;
}

}  // namespace halfstep::testing
