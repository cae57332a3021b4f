// Copies of states are those of what the states are when a run begins, whoever changed them.
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/core/core_testing.h"
#include <halfstep/executors/core/schedule.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::core {
namespace {

using testing::ElementsAre;

constexpr float kBetween = 1 + 0x1p-12F;  // of two numbers of f16

/// A state p with a copy; the output is the opposite of the copy. p becomes -p, and the copy likewise or not at all.
Graph graph_of(bool changes, bool writes_copy) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr p = b.expr(g.add_state("p", Tensor::of<float>({kBetween, 70000, -2}), StateRole::parameter));
  const Expr copy = b.expr(g.add_state("half", Tensor(DType::f16, {3}), StateRole::copy));
  g.states[1].source = p.id();
  g.outputs = {b.cast(b.op("Neg", {copy}), DType::f32).id()};
  if (!changes) return g;
  const Expr next = b.op("Neg", {p});
  g.states[0].next = next.id();
  if (writes_copy) g.states[1].next = b.cast(next, DType::f16).id();
  return g;
}

class Copies : public testing::TestWithParam<std::unique_ptr<Executor> (*)()> {
 protected:
  std::unique_ptr<Program> compile(const Graph& g) { return executor_->compile(g, *store_); }
  static std::vector<double> output_of(Program& program) {
    program.run();
    return to_doubles(program.output(0));
  }

  const std::unique_ptr<Executor> executor_ = GetParam()();
  const std::unique_ptr<StateStore> store_ = executor_->make_store();
};
INSTANTIATE_TEST_SUITE_P(, Copies,
                         testing::Values(
                             +[] { return make_reference_executor(); }, &cpu_executor, &apart_executor));

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST_P(Copies, AreTheCastsOfTheirSources) {
  const auto look = compile(graph_of(false, false));
  EXPECT_THAT(output_of(*look), ElementsAre(-1, -kInfinity, 2));
  store_->write("p", Tensor::of<float>({5, 3 * kBetween, 0}));
  EXPECT_THAT(output_of(*look), ElementsAre(-5, -3, -0.0));
}

TEST_P(Copies, FollowOtherPrograms) {
  const auto look = compile(graph_of(false, false));
  EXPECT_THAT(output_of(*look), ElementsAre(-1, -kInfinity, 2));
  const auto one = compile(graph_of(true, false)), both = compile(graph_of(true, true));
  EXPECT_THAT(output_of(*one), ElementsAre(-1, -kInfinity, 2)) << "of before the step";
  EXPECT_THAT(output_of(*one), ElementsAre(1, kInfinity, -2)) << "the copy that it did not write";
  EXPECT_THAT(output_of(*both), ElementsAre(-1, -kInfinity, 2));
  EXPECT_THAT(output_of(*look), ElementsAre(1, kInfinity, -2));
  EXPECT_THAT(output_of(*both), ElementsAre(1, kInfinity, -2));
  EXPECT_THAT(output_of(*both), ElementsAre(-1, -kInfinity, 2)) << "the copy that it wrote";
}

TEST_P(Copies, HaveNoNameInAStore) {
  const auto program = compile(graph_of(true, true));
  EXPECT_THAT(store_->names(), ElementsAre("p"));
  EXPECT_FALSE(store_->has("half"));
}

TEST(CopiesInPlace, AreWrittenBehindTheirReadersWithTheirSources) {
  Graph g = graph_of(true, true);
  EXPECT_THAT(make_schedule(g).in_place, ElementsAre(true, true));
  // Nodes in an order in which the copy is read behind the next value of its source.
  std::vector<Node> nodes = g.take_nodes();
  for (const std::size_t n : {2, 0, 1, 3}) g.append(nodes[n]);
  EXPECT_THAT(make_schedule(g).order, ElementsAre(1u, 0u, 2u, 3u));
  // A reader that needs the next value of the source keeps the copy from being written where it lies.
  Builder b(g);
  g.outputs.push_back((b.cast(b.op("Abs", {b.expr(g.states[1].value)}), DType::f32) + b.expr(g.states[0].next)).id());
  EXPECT_THAT(make_schedule(g).in_place, ElementsAre(true, true));
  const Expr half = b.cast(b.expr(g.states[0].next), DType::f16);
  g.outputs.push_back((b.expr(g.states[1].value) + half).id());
  EXPECT_THAT(make_schedule(g).in_place, ElementsAre(true, false));
}

}  // namespace
}  // namespace halfstep::core
