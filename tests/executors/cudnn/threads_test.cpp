// Threads that compile and run programs of one executor, whose device has one stream. CUDA is emulated.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/reduction_graph.h"
#include <halfstep/distributed/local.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/ops/builder.h>

namespace halfstep::cudnn {
namespace {

using namespace std::chrono_literals;

class Threads : public testing::Test {
 protected:
  ~Threads() override {
    emulation::machine() = {};
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_STREQ(emulation::latest_refusal(), "");
  }
};

/// w = w + x * factor, whose sum is the output.
Graph sums(float factor) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr x = b.expr(g.add_input("x", DType::f32, {64, 64}));
  const Expr w = b.expr(g.add_state("w", Tensor(DType::f32, {64, 64}), StateRole::parameter));
  const Expr next = w + x * static_cast<double>(factor);
  g.states[0].next = next.id();
  g.outputs = {b.reduce_sum(next, {0, 1}, false).id()};
  return g;
}

std::vector<float> outputs_of(Program& program, int steps) {
  std::ranges::fill(program.input(0).span<float>(), 1.0F);
  std::vector<float> outputs;
  for (int step = 0; step < steps; ++step) {
    program.run();
    outputs.push_back(*program.output(0).data<float>());
  }
  return outputs;
}

std::vector<float> wanted(float factor, int steps) {
  std::vector<float> outputs;
  for (int step = 1; step <= steps; ++step) outputs.push_back(4096.0F * factor * static_cast<float>(step));
  return outputs;
}

/// The graph that a first run becomes holds that program's work alone.
TEST_F(Threads, WaitWhileAnotherCapturesTheStream) {
  const auto executor = emulated_executor();
  const auto first_store = executor->make_store(), second_store = executor->make_store();
  const auto first = executor->compile(sums(1), *first_store), second = executor->compile(sums(2), *second_store);
  outputs_of(*second, 2);  // is captured: it is launched as a whole from here on
  std::thread other;
  std::vector<float> others;
  emulation::machine().at_capture = [&] {
    if (other.joinable()) return;
    other = std::thread([&] { others = outputs_of(*second, 2); });
    std::this_thread::sleep_for(100ms);  // it could have come in
  };
  const std::vector<float> own = outputs_of(*first, 4);
  other.join();
  EXPECT_EQ(own, wanted(1, 4));
  EXPECT_EQ(others, (std::vector<float>{4096.0F * 6, 4096.0F * 8}));
  EXPECT_EQ(first_store->read("w").data<float>()[5], 4);
  EXPECT_EQ(second_store->read("w").data<float>()[5], 8);
}

TEST_F(Threads, CompileAndRunProgramsOfOneExecutor) {
  constexpr int kSteps = 40;
  for (const std::uint32_t seed : {0U, 1U, 2U}) {
    emulation::machine().seed = seed;
    const auto executor = emulated_executor();
    std::vector<std::vector<float>> outputs(3);
    std::vector<float> read(3);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      threads.emplace_back([&, i] {
        const auto store = executor->make_store();
        const auto program = executor->compile(sums(static_cast<float>(i + 1)), *store);
        outputs[i] = outputs_of(*program, kSteps);
        read[i] = store->read("w").data<float>()[4095];
      });
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      EXPECT_EQ(outputs[i], wanted(static_cast<float>(i + 1), kSteps)) << "seed " << seed;
      EXPECT_EQ(read[i], static_cast<float>(kSteps * (i + 1)));
    }
  }
}

/// Who waits for another rank lets that use the device.
TEST_F(Threads, AreRanksOnOneDevice) {
  const auto executor = emulated_executor();
  const std::vector<std::shared_ptr<Communicator>> ranks = make_local_communicators(2);
  std::vector<float> sums(2);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      const auto ranked = on_ranks(*executor, ranks[rank]);
      const auto store = ranked->make_store();
      const auto program = ranked->compile(test::reduction(), *store);
      std::ranges::fill(program->input(0).span<float>(), static_cast<float>(10 + rank));
      for (int step = 0; step < 4; ++step) program->run();
      sums[rank] = program->output(0).data<float>()[2];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sums, (std::vector<float>{21, 21}));
}

}  // namespace
}  // namespace halfstep::cudnn
