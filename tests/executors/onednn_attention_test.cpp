// FusedAttention and its gradient on the oneDNN executor against the reference kernels.
#include "ops/attention/fused_attention.h"
#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {
namespace {

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
constexpr AttentionCase kCases[] = {
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
TestGraph attention_graph(const AttentionCase& a, DType dtype) {
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
  const std::vector<Expr> gradients =
      t.b.multi("AttentionGrad", kOwnDomain, {dy, in[0], in[1], in[2], in[3], y[1]}, in[1] ? 3 : 1, c.attributes());
  t.output(y[0]);
  t.output(y[1]);
  for (const Expr g : gradients) t.output(g);
  return t;
}

TEST(OneDnnAttention, AgreesWithReferenceBothWays) {
  for (const AttentionCase& a : kCases) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      SCOPED_TRACE(std::string(a.what) + " in " + std::string(name_of(dtype)));
      const TestGraph t = attention_graph(a, dtype);
      expect_like_reference(t.graph, dtype == DType::f32 ? 1e-5 : 2 * epsilon_of(dtype), 2);
      Compiled compiled(make_onednn_executor(), t.graph);
      EXPECT_TRUE(plan_entry(*compiled.program, "ai.halfstep.FusedAttention").kernel != "reference");
      EXPECT_TRUE(plan_entry(*compiled.program, "ai.halfstep.AttentionGrad").kernel != "reference");
    }
  }
}

TEST(OneDnnAttention, HasTheSameBitsForAnyNumberOfThreads) {
  const TestGraph t = attention_graph(kCases[3], DType::f32);
  std::vector<Tensor> alone;
  for (const int threads : {1, 2, 3}) {
    Compiled compiled(make_onednn_executor({.threads = threads}), t.graph);
    for (std::size_t i = 0; i < t.graph.inputs.size(); ++i)
      set_input(*compiled.program, i,
                random_tensor(DType::f32, t.graph[t.graph.inputs[i]].shape, static_cast<unsigned>(i) + 1));
    compiled.program->run();
    for (std::size_t i = 0; i < t.graph.outputs.size(); ++i) {
      if (threads == 1) alone.push_back(compiled.program->output(i).clone());
      expect_close(compiled.program->output(i), alone[i], 0, "output " + std::to_string(i));
    }
  }
}

// The gradient of a part of a tensor is 0 elsewhere.
TEST(OneDnnAttention, FillsWhatItDoesNotRead) {
  FusedAttentionConfig c;
  c.queries = c.keys = 3;
  c.head = c.value_head = 2;
  c.q = {0, {0, 0, 0, 8}};
  c.k = {2, {0, 0, 0, 8}};
  c.v = {4, {0, 0, 0, 8}};
  c.y = {0, {0, 0, 0, 2}};
  c.y_shape = {3, 2};
  TestGraph t;
  const Expr x = t.input(DType::f32, {3, 8});
  const std::vector<Expr> y = t.b.multi("FusedAttention", kOwnDomain, {x}, 2, c.attributes());
  const Expr dy = t.input(DType::f32, {3, 2});
  t.output(t.b.own("AttentionGrad", {dy, x, Expr(), Expr(), Expr(), y[1]}, c.attributes()));
  expect_like_reference(t.graph, 1e-5, 2);
}

}  // namespace
}  // namespace halfstep::testing
