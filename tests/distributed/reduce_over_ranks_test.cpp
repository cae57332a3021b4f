// Where a training step adds up over ranks.
#include "passes/step/reduce_over_ranks.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/collective/all_reduce.h"
#include "passes/step/step_values.h"
#include "tests/passes/pass_testing.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Three layers: the backward pass gives the gradients of the last one first.
constexpr const char* kThreeLayers =
    "(float[N,2] x) => (float[N,2] y) <float[2,2] w1 = {1, 2, 3, 4}, float[2,2] w2 = {1, 0, 0, 1}, "
    "float[2,2] w3 = {1, 1, 1, 1}> { a = MatMul(x, w1) b = Tanh(a) c = MatMul(b, w2) d = Tanh(c) y = MatMul(d, w3) }";

StepOptions options(std::size_t bucket_bytes, int ranks = 2) {
  StepOptions result;
  result.shapes.by_name = {{"x", Shape{4, 2}}};
  result.loss.terms = {{.loss = "mean_squared_error", .label_dtype = DType::f32, .label_shape = {4, 2}}};
  result.optimizer = {.name = "sgd"};
  result.ranks = {.ranks = ranks, .bucket_bytes = bucket_bytes, .buckets = {}};
  return result;
}

Graph step(const StepOptions& options) {
  return run_passes(kThreeLayers, whole_pipeline(Purpose::training, options, Capabilities()));
}

std::vector<std::size_t> places_of(const Graph& graph, bool (*is)(const Node&)) {
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    if (is(graph.nodes[i])) places.push_back(i);
  return places;
}

TEST(ReduceOverRanks, BucketsFollowTheBackwardPassAndKeepToTheirSize) {
  EXPECT_THAT(buckets_of(step(options(1))), ElementsAre(ElementsAre("w3"), ElementsAre("w2"), ElementsAre("w1")));
  EXPECT_THAT(buckets_of(step(options(17))), ElementsAre(ElementsAre("w3", "w2"), ElementsAre("w1")));
  EXPECT_THAT(buckets_of(step(options(1000))), ElementsAre(ElementsAre("w3", "w2", "w1")));
  EXPECT_THAT(buckets_of(step(options(1000, 1))), ElementsAre()) << "a step by itself";
}

TEST(ReduceOverRanks, EachIsStartedBehindItsLastGradientAndAwaitedByWhatReadsIt) {
  const Graph graph = step(options(1));
  const std::vector<std::size_t> starts = places_of(graph, starts_all_reduce);
  const std::vector<std::size_t> finishes = places_of(graph, finishes_all_reduce);
  ASSERT_EQ(starts.size(), 4u) << "the loss and three gradients";
  ASSERT_EQ(finishes.size(), 4u);
  EXPECT_LT(starts.back(), finishes.front());
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const Node& node = graph.nodes[starts[i]];
    // In the same order on every rank.
    EXPECT_EQ(node.inputs[0], i == 0 ? kNoValue : graph.nodes[starts[i - 1]].outputs[0]);
    EXPECT_EQ(graph.producer_index(node.inputs[1]), static_cast<std::ptrdiff_t>(starts[i]) - 1) << to_text(graph);
  }
  const StepValues values(graph);
  EXPECT_TRUE(finishes_all_reduce(*graph.producer(values.loss)));
  EXPECT_EQ(graph[values.loss].name, "loss");
  EXPECT_EQ(graph[values.loss_shares].shape, (Shape{2}));
  EXPECT_EQ(values.loss_weight, kNoValue);
  EXPECT_THAT(names_of(graph, values.data), ElementsAre("x"));
}

TEST(ReduceOverRanks, TakesBucketsThatAreGiven) {
  StepOptions given = options(1);
  given.ranks.buckets = {{"w1", "w3"}, {"w2"}};
  EXPECT_EQ(buckets_of(step(given)), given.ranks.buckets);
  given.ranks.buckets = {{"w1", "w3"}};
  EXPECT_THAT(error_of(kThreeLayers, whole_pipeline(Purpose::training, given, Capabilities())),
              HasSubstr("none for 'w2'"));
  given.ranks.buckets = {{"w4"}, {"w1", "w2", "w3", "w5"}};
  EXPECT_THAT(buckets_of(step(given)), ElementsAre(ElementsAre("w1", "w2", "w3"))) << "those that have a gradient";
}

}  // namespace
}  // namespace halfstep::testing
