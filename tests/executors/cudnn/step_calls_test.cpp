// What the host asks of CUDA in a training step, counted.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/calls.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/training_steps.h"
#include <halfstep/executors/overlapped_program.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

using emulation::Calls;
using testing::Contains;
using testing::HasSubstr;

Calls operator-(const Calls& a, const Calls& b) {
  return {.waits = a.waits - b.waits,
          .copies = a.copies - b.copies,
          .copies_to_host = a.copies_to_host - b.copies_to_host,
          .graphs = a.graphs - b.graphs};
}
template <class F>
Calls calls_of(const F& f) {
  const Calls before = emulation::calls();
  f();
  return emulation::calls() - before;
}

class CountedCalls : public testing::Test {
 protected:
  ~CountedCalls() override {
    emulation::machine() = {};
    emulation::latest_refusal();
  }
};

class StepCalls : public CountedCalls, public testing::WithParamInterface<const char*> {};

TEST_P(StepCalls, AreOneGraphAndOneWait) {
  const auto executor = emulated_executor();
  const auto store = executor->make_store();
  const Graph graph = training_step(GetParam(), DType::f16, executor->capabilities());
  const auto half_copies = std::ranges::count(graph.states, StateRole::copy, &State::role);
  EXPECT_GT(half_copies, 0);
  const auto program = executor->compile(graph, *store);
  const Calls first = calls_of([&] { program->run(); });
  EXPECT_EQ(first.copies_to_host, 2 + half_copies)
      << "all small outputs in one copy, launched once and captured once; parameters, to make half copies of";
  OverlappedProgram* overlapped = halfstep::overlapped(*program);
  int large = 0;
  for (std::size_t i = 0; overlapped && i < 2; ++i) large += overlapped->takes_ahead(i);
  for (int step = 0; step < 2; ++step) {
    const int allocations = emulation::allocations();
    const Calls now = calls_of([&] { program->run(); });
    EXPECT_EQ(now.graphs, 1);
    EXPECT_EQ(now.waits, 1) << "for the step's end";
    EXPECT_EQ(now.copies, large) << "outside of the graph: those of large inputs";
    EXPECT_EQ(now.copies_to_host, 0) << "outside of the graph";
    EXPECT_EQ(emulation::allocations(), allocations);
  }
}
INSTANTIATE_TEST_SUITE_P(, StepCalls, testing::Values("mlp-torchscript", "lenet-torchscript"),
                         [](const auto& each) { return std::string(each.param, 3); });

constexpr std::int64_t kSide = 40;  // 6400 bytes of f32: more than goes with a step

/// state = state + relu(x) * factor; the outputs are its sum, and the largest x. `is_flat`: x is read as another shape
/// than it has.
Graph accumulation(bool is_flat = false) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr given = b.expr(g.add_input("x", DType::f32, is_flat ? Shape{kSide * kSide} : Shape{kSide, kSide}));
  const Expr x = is_flat ? b.reshape(given, {kSide, kSide}) : given;
  const Expr factor = b.expr(g.add_input("factor", DType::f32, {}));
  const Expr sum = b.expr(g.add_state("sum", Tensor(DType::f32, {kSide, kSide}), StateRole::parameter));
  const Expr next = sum + b.op("Relu", {x}) * factor;
  g.states[0].next = next.id();
  g.outputs = {b.reduce_sum(next, {0, 1}, false).id(), b.op("ReduceMax", {x}, {{"keepdims", std::int64_t{0}}}).id()};
  return g;
}

void fill_with(Tensor memory, int value) {
  for (float& each : memory.span<float>()) each = static_cast<float>(value);
}

/// The outputs of steps on x of 1, 2, 3, ..., each given while the step before runs.
std::vector<float> overlapped_run(int steps, Calls* last = nullptr, const Graph& graph = accumulation()) {
  const auto executor = emulated_executor();
  const auto store = executor->make_store();
  const auto program = executor->compile(graph, *store);
  OverlappedProgram* overlapped = halfstep::overlapped(*program);
  EXPECT_TRUE(overlapped && overlapped->takes_ahead(0) && !overlapped->takes_ahead(1));
  std::vector<float> outputs;
  fill_with(program->input(0), 1);
  for (int step = 1; overlapped && step <= steps; ++step) {
    const int allocations = emulation::allocations();
    const Calls calls = calls_of([&] {
      *program->input(1).data<float>() = static_cast<float>(step);
      overlapped->start(step > 1);
      fill_with(overlapped->ahead(0), step + 1);
      overlapped->give_ahead();
      overlapped->finish();
    });
    if (step > 1) {
      EXPECT_EQ(emulation::allocations(), allocations);
    }
    if (last) *last = calls;
    for (std::size_t i = 0; i < 2; ++i) outputs.push_back(*program->output(i).data<float>());
  }
  return outputs;
}

std::vector<float> expected_run(int steps) {
  std::vector<float> outputs;
  float sum = 0;
  for (int step = 1; step <= steps; ++step) {
    sum += static_cast<float>(kSide * kSide * step * step);
    outputs.insert(outputs.end(), {sum, static_cast<float>(step)});
  }
  return outputs;
}

class OverlappedSteps : public CountedCalls {};

TEST_F(OverlappedSteps, TakeWhatIsGivenWhileTheStepBeforeRuns) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    emulation::machine().seed = seed;
    Calls last;
    EXPECT_EQ(overlapped_run(6, &last), expected_run(6)) << "seed " << seed;
    EXPECT_EQ(last.graphs, 1);
    EXPECT_EQ(last.waits, 1);
    EXPECT_EQ(last.copies, 1) << "of the next step's x";
  }
}

TEST_F(OverlappedSteps, TakeWhatIsReadThroughAViewFirst) {
  Calls last;
  EXPECT_EQ(overlapped_run(6, &last, accumulation(true)), expected_run(6));
  EXPECT_EQ(last.copies, 1) << "of the next step's x";
}

/// What that is worth: without the program's wait for the copies, or that of the copies for the program, some order of
/// the streams' work gives other numbers.
TEST_F(OverlappedSteps, AStreamThatDoesNotWaitIsSeen) {
  for (const unsigned ignored : {1U, 2U}) {
    bool is_seen = false;
    for (std::uint32_t seed = 1; seed < 40 && !is_seen; ++seed) {
      emulation::machine().seed = seed;
      emulation::machine().ignored_waits = ignored;
      is_seen = overlapped_run(6) != expected_run(6);
    }
    EXPECT_TRUE(is_seen) << ignored;
  }
}

TEST_F(OverlappedSteps, MayBeGivenUpForOthersOrNotBeUsed) {
  const auto executor = emulated_executor();
  const auto store = executor->make_store();
  const auto program = executor->compile(accumulation(), *store);
  OverlappedProgram* overlapped = halfstep::overlapped(*program);
  ASSERT_TRUE(overlapped);
  *program->input(1).data<float>() = 1;
  int run = 0;
  for (const bool ahead : {false, true, true, false, false, true}) {
    ++run;
    if (!ahead) fill_with(program->input(0), run);
    overlapped->start(ahead);
    fill_with(overlapped->ahead(0), run + 1);
    overlapped->give_ahead();
    overlapped->finish();
    EXPECT_EQ(*program->output(1).data<float>(), static_cast<float>(run));
  }
  fill_with(program->input(0), 50);
  program->run();
  EXPECT_EQ(*program->output(1).data<float>(), 50.0f);
}

/// Products on the device, and Sin on the host between them.
Graph split_graph() {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const auto on_device = [&](Expr x) { return b.op("MatMul", {b.op("MatMul", {x, x}), x}); };
  const Expr x = b.expr(g.add_input("x", DType::f32, {2, 2}));
  g.outputs = {on_device(b.op("Sin", {on_device(x)})).id()};
  return g;
}

TEST_F(CountedCalls, NodesOfTheHostSplitTheGraph) {
  const auto reference = make_reference_executor();
  emulation::machine().can_compile = false;  // Sin has no kernel but a generated one
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    emulation::machine().seed = seed;
    const auto executor = emulated_executor();
    const auto store = executor->make_store(), other_store = reference->make_store();
    const auto program = executor->compile(split_graph(), *store);
    const auto other = reference->compile(split_graph(), *other_store);
    EXPECT_THAT(program->plan().notes, Contains(HasSubstr("what is between them is 2 captured CUDA graphs")));
    for (int run = 1; run < 4; ++run) {
      for (Tensor memory : {program->input(0), other->input(0)})
        for (std::size_t i = 0; i < 4; ++i)
          memory.data<float>()[i] = 0.2f * static_cast<float>(run + static_cast<int>(i) % 3);
      const int allocations = emulation::allocations();
      const Calls calls = calls_of([&] { program->run(); });
      other->run();
      for (std::size_t i = 0; i < 4; ++i)
        EXPECT_NEAR(program->output(0).data<float>()[i], other->output(0).data<float>()[i], 1e-4) << "seed " << seed;
      if (run == 1) continue;
      EXPECT_EQ(calls.graphs, 2);
      EXPECT_EQ(calls.waits, 2) << "for Sin's operand, and for the end";
      EXPECT_EQ(calls.copies, 0) << "outside of the graphs";
      EXPECT_EQ(emulation::allocations(), allocations);
    }
  }
}

}  // namespace
}  // namespace halfstep::cudnn
