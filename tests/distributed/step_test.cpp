// Steps and programs of ranks, looked at by themselves.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/passes/pass_testing.h"
#include <halfstep/distributed/local.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/training/label_reading.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;

TEST(RankProgram, KeepsItsCommunicator) {
  const Graph graph = testing::parse(
      "(float[3] x) => (float[3] y) "
      "{ s = ai.halfstep.StartAllReduce(, x) y = ai.halfstep.FinishAllReduce<shapes = [1, 3]>(s) }");
  const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
  const std::unique_ptr<StateStore> store = executor->make_store();
  std::vector<std::shared_ptr<Communicator>> ranks = make_local_communicators(1);
  const std::weak_ptr<Communicator> rank = ranks[0];
  std::unique_ptr<Program> program = on_ranks(*executor, ranks[0])->compile(graph, *store);
  ranks.clear();
  ASSERT_FALSE(rank.expired());
  for (const float value : {1.0f, 2.5f}) {
    for (float& element : program->input(0).span<float>()) element = value;
    program->run();
    for (const float element : program->output(0).span<float>()) EXPECT_EQ(element, value);
  }
  program.reset();
  EXPECT_TRUE(rank.expired());
}

/// Of a, which nothing else reads, there is one copy in the arena; b is also read as it was, and x is the caller's.
/// They lie at the same places on all ranks, whatever executes them.
TEST(RankProgram, TensorsLieWhereTheyAreReduced) {
  constexpr const char* kGraph =
      "(float[999] x) => (float[999] p, float[999] q, float[999] r, float[999] own) "
      "{ a = Neg(x) b = Abs(x) s = ai.halfstep.StartAllReduce(, a, b, x) own = Neg(b) "
      "c, d, e = ai.halfstep.FinishAllReduce<shapes = [1, 999, 1, 999, 1, 999]>(s) p = Neg(c) q = Neg(d) r = Neg(e) }";
  constexpr auto kFast = make_onednn_executor, kReference = make_reference_executor;
  for (const auto makers :
       {std::array{kFast, kFast}, std::array{kReference, kReference}, std::array{kFast, kReference}})
    run_ranks(2, [&](const std::shared_ptr<Communicator>& ranks) {
      const auto make = makers[static_cast<std::size_t>(ranks->rank())];
      const Graph graph = testing::parse(kGraph);
      const std::unique_ptr<Executor> executor = make({.threads = 1});
      const std::unique_ptr<StateStore> store = executor->make_store();
      const std::unique_ptr<Program> program = on_ranks(*executor, ranks)->compile(graph, *store);
      if (make == make_onednn_executor) {
        EXPECT_LE(program->plan().arena_bytes, 4 * 999 * sizeof(float) + 1024) << "the sums and b";
      }
      for (int round = 1; round <= 2; ++round) {
        const float value = static_cast<float>(round * (ranks->rank() == 0 ? 1 : -2));
        for (float& element : program->input(0).span<float>()) element = value;
        program->run();
        const float wanted[] = {-static_cast<float>(round), -3.0f * static_cast<float>(round),
                                static_cast<float>(round), -std::abs(value)};
        for (std::size_t i = 0; i < 4; ++i)
          for (const float element : program->output(i).span<float>()) ASSERT_EQ(element, wanted[i]) << i;
      }
    });
}

/// What is under way when an error ends a step is not started again: ranks would add up different steps.
TEST(RankProgram, AStepAfterOneThatAnErrorHasEndedIsRefused) {
  const Graph graph = testing::parse(
      "(float[3] x, int64[1] i) => (float[3] y, float[1] z) "
      "{ s = ai.halfstep.StartAllReduce(, x) z = Gather(x, i) y = ai.halfstep.FinishAllReduce<shapes = [1, 3]>(s) }");
  const std::unique_ptr<Executor> executor = make_onednn_executor({.threads = 1});
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::unique_ptr<Program> program = on_ranks(*executor, make_local_communicators(1)[0])->compile(graph, *store);
  const auto run = [&](std::int64_t index) {
    program->input(1).span<std::int64_t>()[0] = index;
    try {
      program->run();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(run(2), "");
  EXPECT_THAT(run(7), HasSubstr("7"));
  EXPECT_THAT(run(2), HasSubstr("an all-reduce that is awaited before it is started again"));
}

TEST(WeightOfLabels, LooksUpNoClassThatHasNoWeight) {
  const std::vector<double> weights{1, 0.5, 4};
  const LabelReading reading{.form = LabelReading::Form::classes, .ignored = -100};
  const auto weight = [&](const Tensor& labels) {
    return weight_of_labels(reading, labels, labels.count(), weights, nullptr);
  };
  EXPECT_EQ(weight(Tensor::of<std::int64_t>({0, 2, -100, 1})), 5.5);
  for (const std::int64_t label : {std::int64_t{3}, std::int64_t{-1}, std::int64_t{1} << 40}) {
    std::string what;
    try {
      weight(Tensor::of<std::int64_t>({0, label}));
    } catch (const Error& error) {
      what = error.what();
    }
    EXPECT_THAT(what,
                HasSubstr(std::string("expected labels from 0 to 2, got ") + std::to_string(label) + " at position 1"));
  }
}

}  // namespace
}  // namespace halfstep
