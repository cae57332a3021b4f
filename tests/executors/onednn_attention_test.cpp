// FusedAttention and its gradient on the oneDNN executor against the reference kernels.
#include "tests/executors/attention_cases.h"
#include <halfstep/executors/unread_inputs.h>

namespace halfstep::testing {
namespace {

TEST(OneDnnAttention, AgreesWithReferenceBothWays) {
  for (const AttentionCase& a : kAttentionCases) {
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

// The gradient computes again what it needs of the result: that need not be kept for it.
TEST(OneDnnAttention, LeavesItsResultUnread) {
  const TestGraph t = attention_graph(kAttentionCases[2], DType::f32);
  const UnreadInputs of_reference = unread_inputs(*Compiled(make_reference_executor(), t.graph).program);
  EXPECT_TRUE(of_reference.empty());
  const UnreadInputs unread = unread_inputs(*Compiled(make_onednn_executor(), t.graph).program);
  ASSERT_EQ(unread.size(), 1u);
  EXPECT_EQ(unread.begin()->second, std::vector<std::size_t>{ops::kGradResult});
}

TEST(OneDnnAttention, HasTheSameBitsForAnyNumberOfThreads) {
  const TestGraph t = attention_graph(kAttentionCases[3], DType::f32);
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
