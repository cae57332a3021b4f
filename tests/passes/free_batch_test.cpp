// Models exported for one batch size, computing with others.
#include <gtest/gtest.h>

#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

using ::testing::HasSubstr;

Graph with_batch(const std::string& text, std::int64_t batch) {
  Graph graph = parse(text);
  Shape x = graph[graph.inputs[0]].shape;
  std::vector<std::int64_t> dims(x.begin(), x.end());
  dims[0] = batch;
  const std::string name = graph[graph.inputs[0]].name;
  return run_pipeline(std::move(graph), {separate_merged_parameters(), undo_batch_expansion(),
                                         bind_shapes({.by_name = {{name, Shape(dims)}}}), fold_constants()});
}

struct Case {
  const char* what;
  const char* text;
};

class FreedBatch : public ::testing::TestWithParam<Case> {};

TEST_P(FreedBatch, FollowsTheInput) {
  EXPECT_EQ(batch_obstacle(parse(GetParam().text)), "");
  for (std::int64_t batch : {1, 3, 4, 8}) {
    const Graph graph = with_batch(GetParam().text, batch);
    EXPECT_EQ(graph[graph.outputs[0]].shape[0], batch) << to_text(graph);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Forms, FreedBatch,
    ::testing::Values(
        Case{"reshape", "(float[4,6] x) => (float[4,2,3] y) <int64[3] s = {4,2,3}> { y = Reshape(x, s) }"},
        Case{"reshape_with_open_extent",
             "(float[4,6] x) => (float[4,2,3] y) <int64[3] s = {4,2,-1}> { y = Reshape(x, s) }"},
        Case{"batch_times_heads",
             "(float[4,2,3] x) => (float[4,2,3] y) <int64[2] s = {8,3}, int64[3] t = {4,2,3}> "
             "{ a = Reshape(x, s) b = Relu(a) y = Reshape(b, t) }"},
        Case{"shape_of_the_input",
             "(float[4,6] x) => (float[4,6] y) <float[1,6] b = {1,2,3,4,5,6}> "
             "{ s = Shape(x) c = Expand(b, s) y = Add(x, c) }"},
        Case{"class_token",
             "(float[2,1,2] x) => (float[2,2,2] y) <float[2,1,2] t = {1,2,1,2}> { y = Concat<axis = 1>(t, x) }"},
        Case{"expanded_class_token",
             "(float[4,1,2] x) => (float[4,2,2] y) <float[1,1,2] t = {1,2}, int64[3] s = {4,1,2}> "
             "{ e = Expand(t, s) y = Concat<axis = 1>(e, x) }"},
        Case{"mask_over_the_batch", "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,-5,0,-5}> { y = Add(x, m) }"}),
    [](const auto& test) { return std::string(test.param.what); });

TEST(FixedBatch, NamesTheNodeThatBakesItIn) {
  EXPECT_THAT(batch_obstacle(parse("(float[2,2] x) => (float[2,2] y) <float[2,2] b = {1,2,3,4}> { y = Add(x, b) }")),
              HasSubstr("Add"));
  EXPECT_THAT(batch_obstacle(parse("(float[4,6] x) => (float[4,6] y) <int64[2] s = {3,8}, int64[2] t = {4,6}> "
                                   "{ a = Reshape(x, s) b = Relu(a) y = Reshape(b, t) }")),
              HasSubstr("Reshape"));
}

TEST(FixedBatch, IsRefusedWithBothShapes) {
  const std::string text = "(float[2,2] x) => (float[2,2] y) <float[2,2] b = {1,2,3,4}> { y = Add(x, b) }";
  const std::string error = error_of(text, {bind_shapes({.by_name = {{"x", Shape{5, 2}}}})});
  EXPECT_THAT(error, HasSubstr("[2, 2]"));
  EXPECT_THAT(error, HasSubstr("batch of 5"));
  EXPECT_THAT(error_of(text, {bind_shapes({.by_name = {{"x", Shape{2, 3}}}})}), HasSubstr("[2, 3]"));
}

}  // namespace
}  // namespace halfstep::testing
