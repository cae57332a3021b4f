// A step that needs more memory than there is ends before anything of it is allocated.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "base/machine_memory.h"
#include "tests/executors/onednn_testing.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/memory.h>
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A chain in which `together` values, each of a quarter of the memory, live at once.
Graph chain(int together) {
  const auto elements = static_cast<std::int64_t>(machine_memory() / 4 / sizeof(float));
  std::string text = fmt::format(R"(<ir_version: 10, opset_import: ["": 20]> m (float[1] x) => (float[1] y)
    <int64[1] big = {{{}}}, int64[1] none = {{0}}> {{ v0 = Expand(x, big) )",
                                 elements);
  for (int i = 1; i < together; ++i) text += fmt::format("v{} = Exp(v0) ", i);
  std::string sum = "v0";
  for (int i = 1; i < together; ++i) {
    text += fmt::format("s{0} = Add({1}, v{0}) ", i, sum);
    sum = fmt::format("s{}", i);
  }
  return parse_model(text + fmt::format("y = Gather({}, none) }}", sum)).graph;
}

TEST(StepMemory, IsCountedByWhatLivesAtOnce) {
  for (int together = 1; together <= 3; ++together)
    EXPECT_NO_THROW(check_step_fits(chain(together), ValueMemory::shared)) << together;
  for (int together = 5; together <= 6; ++together)
    EXPECT_THROW(check_step_fits(chain(together), ValueMemory::shared), Error) << together;
  EXPECT_THROW(check_step_fits(chain(3), ValueMemory::separate), Error) << "the sums have memory of their own";
  EXPECT_THROW(check_step_fits(chain(1), machine_memory()), Error);
}

TEST(StepMemory, ThatThereIsNotIsAnErrorThatNamesTheLargestTensors) {
  for (const bool reference : {true, false}) {
    const std::unique_ptr<Executor> executor = reference ? make_reference_executor() : make_onednn_executor();
    const std::unique_ptr<StateStore> store = executor->make_store();
    try {
      executor->compile(chain(6), *store);
      ADD_FAILURE() << executor->name();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::failure);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("a step that fits"), HasSubstr("'v0' f32["), HasSubstr("GiB")))
          << executor->name();
    }
  }
}

std::string refusal_of(const Graph& graph, const MemoryRoom& room) {
  try {
    check_step_fits(graph, ValueMemory::shared, room);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

// An optimizer and a memory budget are of training alone.
TEST(StepMemory, HintsAreOfWhatTheStepDoes) {
  for (const bool trains : {false, true}) {
    testing::TestGraph t;
    const Tensor weight = testing::random_tensor(DType::f32, {64, 64}, 1);
    const ValueId w = t.graph.add_state("w", weight, StateRole::parameter);
    const Expr y = t.b.op("MatMul", {t.input(DType::f32, {1024, 64}), t.b.expr(w)});
    t.output(t.b.op("MatMul", {y, t.b.expr(w)}));
    if (trains) t.graph.states[0].next = t.b.op("Neg", {t.b.expr(w)}).id();
    const std::size_t states = weight.bytes();
    const std::string smaller = refusal_of(t.graph, {.bytes = 3 * states, .owner = "a device", .is_host = false});
    EXPECT_THAT(smaller, HasSubstr("instead of 1024 fits"));
    EXPECT_EQ(smaller.find("--memory-budget") != std::string::npos, trains) << smaller;
    const std::string none = refusal_of(t.graph, {.bytes = states / 2, .owner = "a device", .is_host = false});
    EXPECT_THAT(none, HasSubstr("not even a batch of 1 fits"));
    EXPECT_EQ(none.find("optimizer") != std::string::npos, trains) << none;
  }
}

/// Bytes of this process in memory.
std::size_t resident() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0, pages = 0;
  statm >> total >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// Moments are as large as parameters, and a state may be brought to another layout when a step is compiled.
TEST(StepMemory, StatesOfZerosTakeNoneUntilTheyAreWritten) {
  constexpr std::int64_t kSide = 4096;
  testing::TestGraph t;
  const Tensor zeros(DType::f32, {kSide, kSide});
  const Expr state = t.b.expr(t.graph.add_state("s", zeros, StateRole::parameter));
  const Expr x = t.input(DType::f32, {2, kSide});
  t.output(t.b.op("Gemm", {x, state}, {{"transB", std::int64_t{1}}}));
  const std::unique_ptr<Executor> executor = make_onednn_executor();
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::size_t before = resident();
  const std::unique_ptr<Program> program = executor->compile(t.graph, *store);
  EXPECT_LT(resident(), before + zeros.bytes() / 2);

  testing::set_input(*program, 0, testing::random_tensor(DType::f32, {2, kSide}, 1));
  program->run();
  for (const float y : program->output(0).span<float>()) ASSERT_EQ(y, 0);
  EXPECT_TRUE(identical(store->read("s"), zeros));
}

// Of a weight there is what the model has, and what it was reordered to.
TEST(StepMemory, ConstantsAndTheirReorderedCopiesAreHeldOnceForAllBatches) {
  constexpr std::int64_t kChannels = 1024;
  const Tensor weight = testing::random_tensor(DType::f32, {kChannels, kChannels, 3, 3}, 1);
  const std::unique_ptr<Executor> executor = make_onednn_executor();
  const auto compiled = [&](std::int64_t batch, const Tensor& w) {
    testing::TestGraph t;
    const Expr x = t.input(DType::f32, {batch, kChannels, 4, 4});
    t.output(t.b.op("Conv", {x, t.b.constant(w)}, {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}}));
    const std::unique_ptr<StateStore> store = executor->make_store();
    return executor->compile(t.graph, *store);
  };
  const std::size_t before = resident();
  const std::unique_ptr<Program> first = compiled(2, weight);
  const std::size_t one = resident();
  EXPECT_GT(one, before + weight.bytes() / 2) << "it is reordered, or this tests nothing";
  // Folding computes the same elements anew.
  const std::unique_ptr<Program> second = compiled(4, weight.clone()), third = compiled(6, weight.clone());
  EXPECT_LT(resident(), one + weight.bytes() / 2);
  for (Program* program : {first.get(), second.get(), third.get()}) {
    Tensor x = program->input(0);
    std::fill_n(x.data<float>(), x.count(), 1.0F);
    program->run();
  }
  testing::expect_close(second->output(0).rows(0, 2), first->output(0), 1e-5, "second");
  testing::expect_close(third->output(0).rows(4, 6), first->output(0), 1e-5, "third");
}

}  // namespace
}  // namespace halfstep
