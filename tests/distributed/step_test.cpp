// Steps and programs of ranks, looked at by themselves.
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
