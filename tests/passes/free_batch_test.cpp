// Models exported for one batch size, computing with others.
#include "passes/load/free_batch.h"

#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "tests/passes/pass_testing.h"
#include <halfstep/passes/pipelines.h>

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
        Case{"mask_over_the_batch", "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,-5,0,-5}> { y = Add(x, m) }"},
        Case{"bound_over_the_batch", "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,-5,0,-5}> { y = Max(x, m) }"},
        Case{"summand_over_the_batch",
             "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,-5,0,-5}> { y = Sum(x, m, x) }"},
        Case{"compared_over_the_batch",
             "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,-5,0,-5}> { c = Greater(x, m) y = Where(c, x, m) }"},
        Case{"tiled",
             "(float[4,2] x) => (float[4,2] y) <float[1,2] r = {1,2}, int64[2] n = {4,1}> "
             "{ t = Tile(r, n) y = Add(x, t) }"},
        Case{"filled",
             "(float[4,2] x) => (float[4,2] y) <int64[2] s = {4,2}> "
             "{ c = ConstantOfShape<value = float[1] {3}>(s) y = Add(x, c) }"},
        Case{"drawn", "(float[4,2] x) => (float[4,2] y) { r = RandomNormal<shape = [4, 2]>() y = Add(x, r) }"},
        Case{"initial_state",
             "(float[4,3,2] x) => (float[4,3,1,2] y) <float[1,2,2] w = {1,2,3,4}, float[1,2,2] r = {1,2,3,4}, "
             "int64[3] s = {4,1,2}> { h = ConstantOfShape(s) y = RNN<hidden_size = 2, layout = 1>(x, w, r, , , h) }"}),
    [](const auto& test) { return std::string(test.param.what); });

/// The result of a graph for its input, numbers that differ.
std::vector<double> result_for(const Graph& graph, const Tensor& x) {
  Compiled c(graph);
  c.set(graph[graph.inputs[0]].name, x);
  c.program->run();
  return c.get(graph[graph.outputs[0]].name);
}

// Shapes that have the batch of the export as an extent by chance, and batches that are an extent of something else.
TEST(FreedBatch, ComputesForRowsWhatTheyAreAlone) {
  const Case cases[] = {
      {"a factor for each channel",
       "(float[1,4,2,2] x) => (float[1,4,2,2] y) <float[4] s = {1,2,3,4}, int64[4] n = {1,-1,1,1}> "
       "{ f = Reshape(s, n) y = Mul(x, f) }"},
      {"a factor for each channel, all extents given",
       "(float[1,4,2,2] x) => (float[1,4,2,2] y) <float[4] s = {1,2,3,4}, int64[4] n = {1,4,1,1}> "
       "{ f = Reshape(s, n) y = Mul(x, f) }"},
      {"a table of as many rows as there are channels",
       "(float[2,4] x) => (float[2,3] y) <float[4,3] s = {1,2,3,4,5,6,7,8,9,10,11,12}, int64[3] n = {2,2,3}, "
       "int64[2] m = {4,3}> { a = Reshape(s, n) b = Neg(a) w = Reshape(b, m) y = MatMul(x, w) }"},
      {"a list of indices",
       "(float[1,4] x) => (float[1,1] y) <int64[1] n = {1}> "
       "{ i = ConstantOfShape<value = int64[1] {2}>(n) y = Gather<axis = 1>(x, i) }"},
      {"a table of indices",
       "(float[1,4] x) => (float[1,1,1] y) <int64[2] n = {1,1}> "
       "{ i = ConstantOfShape<value = int64[1] {2}>(n) y = Gather<axis = 1>(x, i) }"},
      {"a filter",
       "(float[1,1,3,3] x) => (float[1,1,2,2] y) <float[1,1,1,1] f = {2}, int64[4] n = {1,1,2,2}> "
       "{ w = Expand(f, n) y = Conv(x, w) }"},
      {"a matrix",
       "(float[2,2] x) => (float[2,3] y) <int64[2] n = {2,3}> "
       "{ w = ConstantOfShape<value = float[1] {3}>(n) y = MatMul(x, w) }"},
      {"a vector of features",
       "(float[3,3] x) => (float[3,3] y) <int64[1] n = {3}> "
       "{ b = ConstantOfShape<value = float[1] {3}>(n) y = Add(x, b) }"},
      {"as many paddings as rows",
       "(float[4,3] x) => (float[4,5] y) <int64[1] n = {4}, int64[4] m = {0,1,0,1}> "
       "{ o = ConstantOfShape<value = int64[1] {1}>(n) p = Mul(o, m) y = Pad(x, p) }"},
      {"a row of a table for each position",
       "(float[2,3,2] x) => (float[2,3,2] y) <int64[2] n = {2,3}, float[2,2] t = {1,2,3,4}> "
       "{ i = ConstantOfShape<value = int64[1] {1}>(n) e = Gather(t, i) y = Add(x, e) }"},
      {"a first state that a layer computes",
       "(float[2,3] x) => (float[2,3] y) <int64[2] n = {2,2}, float[2,3] w = {1,2,3,4,5,6}> "
       "{ h = ConstantOfShape<value = float[1] {1}>(n) g = Gemm(h, w) y = Add(g, x) }"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const Graph source = run_passes(c.text, {fold_constants()});
    EXPECT_EQ(batch_obstacle(parse(c.text)), "");
    const Shape& shape = source[source.inputs[0]].shape;
    for (const std::int64_t times : {2, 3, 4, 13}) {
      std::vector<std::int64_t> dims(shape.begin(), shape.end());
      dims[0] *= times;
      Tensor x(DType::f32, Shape(dims));
      for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>((i * 7) % 11 - 5) / 4;
      std::vector<double> wanted;
      for (std::int64_t i = 0; i < times; ++i) {
        const std::vector<double> part = result_for(source, x.rows(i * shape[0], (i + 1) * shape[0]));
        wanted.insert(wanted.end(), part.begin(), part.end());
      }
      EXPECT_EQ(result_for(with_batch(c.text, dims[0]), x), wanted) << dims[0] << " rows";
    }
  }
}

TEST(FixedBatch, IsRefusedWhereAnotherFitsByChance) {
  // With three rows, the axis of three looks like theirs.
  const std::string text =
      "(float[1,3,2] x) => (float[1,6] y) <int64[2] n = {1,-1}> "
      "{ t = Transpose<perm = [1, 0, 2]>(x) y = Reshape(t, n) }";
  EXPECT_THAT(batch_obstacle(parse(text)), HasSubstr("output 'y'"));
  for (const std::int64_t batch : {2, 3, 6})
    EXPECT_THAT(error_of(text, {bind_shapes({.by_name = {{"x", Shape{batch, 3, 2}}}})}), HasSubstr("output 'y'"))
        << batch;
}

TEST(FixedBatch, NamesTheNodeThatBakesItIn) {
  EXPECT_THAT(batch_obstacle(parse("(float[2,2] x) => (float[2,2] y) <float[2,2] b = {1,2,3,4}> { y = Add(x, b) }")),
              HasSubstr("Add"));
  EXPECT_THAT(batch_obstacle(parse("(float[4,6] x) => (float[4,6] y) <int64[2] s = {3,8}, int64[2] t = {4,6}> "
                                   "{ a = Reshape(x, s) b = Relu(a) y = Reshape(b, t) }")),
              HasSubstr("Reshape"));
}

TEST(FixedBatch, OfAnInitialStateIsNamed) {
  EXPECT_THAT(
      batch_obstacle(parse("(float[2,3,1] x) => (float[2,3,1,1] y) <float[1,1,1] w = {1}, float[1,1,1] r = {1}, "
                           "float[2,1,1] h = {1,2}> { y = RNN<hidden_size = 1, layout = 1>(x, w, r, , , h) }")),
      HasSubstr("the initial state of shape [2, 1, 1] of RNN"));
}

TEST(FixedBatch, IsTheFirstExtentOfTheInputs) {
  EXPECT_EQ(fixed_batch(parse("(float[3,2] a, float[3] b) => (float[3,2] y) { y = Relu(a) z = Relu(b) }")), 3);
  EXPECT_EQ(fixed_batch(parse("(float[n,2] a, float[3] b) => (float[n,2] y) { y = Relu(a) z = Relu(b) }")), 3);
  EXPECT_EQ(fixed_batch(parse("(float[n,2] a) => (float[n,2] y) { y = Relu(a) }")), Shape::kUnknown);
  const auto found = [](const char* text) {
    try {
      fixed_batch(parse(text));
    } catch (const Error& error) {
      return std::string(error.found());
    }
    return std::string();
  };
  EXPECT_EQ(found("(float[3,2] a, float[4] b) => (float[3,2] y) { y = Relu(a) z = Relu(b) }"), "'a' has 3, 'b' has 4");
  EXPECT_EQ(found("(float[0,2] a) => (float[0,2] y) { y = Relu(a) }"), "'a' has 0");
}

// As many positions as the batch by chance, all of them 0 before training.
TEST(FixedBatch, StaysWithRowsThatTrainApart) {
  struct Trained {
    const char* what;
    const char* text;
    Shape trained;  // of the constant p
  };
  const Trained cases[] = {
      {"zeros that are added",
       "(float[4,3] x) => (float[4,3] y) <float[4,3] p = {0,0,0,0,0,0,0,0,0,0,0,0}> { y = Add(x, p) }",
       {4, 3}},
      {"equal factors",
       "(float[2,3] x) => (float[2,3] y) <float[2,3] p = {0.5,0.5,0.5,0.5,0.5,0.5}> { y = Mul(x, p) }",
       {2, 3}},
      {"one row repeated", "(float[2,3] x) => (float[2,3] y) <float[2,3] p = {1,2,3,1,2,3}> { y = Add(x, p) }", {1, 3}},
      {"zeros that are concatenated, which need rows",
       "(float[2,1,2] x) => (float[2,2,2] y) <float[2,1,2] p = {0,0,0,0}> { y = Concat<axis = 1>(p, x) }",
       {1, 1, 2}},
      {"zeros that are concatenated and added",
       "(float[2,1,2] x) => (float[2,2,2] y, float[2,1,2] z) <float[2,1,2] p = {0,0,0,0}> "
       "{ y = Concat<axis = 1>(p, x) z = Add(x, p) }",
       {1, 1, 2}},
      {"a mask, which is not trained",
       "(float[2,3] x) => (float[2,3] y) <float[2,3] p = {0,0,0,0,0,0}, float[3,3] w = {1,2,3,4,5,6,7,8,9}> "
       "{ s = MatMul(x, w) m = Add(s, p) y = Softmax(m) }",
       {1, 3}},
  };
  for (const Trained& c : cases) {
    SCOPED_TRACE(c.what);
    const auto shape_for = [&](Purpose purpose) {
      const Graph graph = run_passes(c.text, repair_pipeline(purpose));
      return graph[graph.find("p")].shape;
    };
    EXPECT_EQ(shape_for(Purpose::training), c.trained);
    EXPECT_EQ(shape_for(Purpose::inference)[0], 1);
    EXPECT_EQ(batch_obstacle(parse(c.text)), "");
    EXPECT_EQ(batch_obstacle_in_training(parse(c.text)).empty(), c.trained[0] == 1);
  }
}

TEST(FixedBatch, StaysWhereRowsDiffer) {
  const std::string text = "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,-5,0,-6}> { y = Max(x, m) }";
  const Graph graph = run_passes(text, {undo_batch_expansion()});
  EXPECT_EQ(graph[graph.find("m")].shape, (Shape{2, 2}));
  EXPECT_THAT(batch_obstacle(parse(text)), HasSubstr("[2, 2]"));
}

TEST(FixedBatch, IsRefusedWithBothShapes) {
  const std::string text = "(float[2,2] x) => (float[2,2] y) <float[2,2] b = {1,2,3,4}> { y = Add(x, b) }";
  const std::string error = error_of(text, {bind_shapes({.by_name = {{"x", Shape{5, 2}}}})});
  EXPECT_THAT(error, HasSubstr("[2, 2]"));
  EXPECT_THAT(error, HasSubstr("5 rows"));
  EXPECT_THAT(error_of(text, {bind_shapes({.by_name = {{"x", Shape{2, 3}}}})}), HasSubstr("[2, 3]"));
}

TEST(BatchSearches, AreMadeOnceForAllBatches) {
  const Graph graph = parse(
      "(float[4,6] x) => (float[4,2,3] y) <int64[3] s = {4,2,3}, float[6] w = {1,2,3,4,5,6}> "
      "{ h = Mul(x, w) y = Reshape(h, s) }");
  const auto searches = std::make_shared<BatchSearches>();
  EXPECT_EQ(batch_obstacle_of_repaired(graph, searches), "");
  EXPECT_EQ(searches->made(), 1u);
  for (const std::int64_t batch : {1, 3, 8}) {
    const InputShapes shapes{.by_name = {{"x", Shape{batch, 6}}}};
    const Graph bound = run_pipeline(graph, {bind_shapes(shapes, searches), fold_constants()});
    EXPECT_EQ(to_text(bound), to_text(run_pipeline(graph, {bind_shapes(shapes), fold_constants()})));
    EXPECT_EQ(bound[bound.outputs[0]].shape, (Shape{batch, 2, 3}));
  }
  EXPECT_EQ(searches->made(), 1u);
}

TEST(BatchSearches, AreMadeForEveryOtherExtentOfAnInput) {
  const Graph graph = parse(
      "(float[4,L] x) => (float[M] y) <int64[1] minus = {-1}, int64[2] s = {4,-1}> "
      "{ h = Reshape(x, s) y = Reshape(h, minus) }");
  const auto searches = std::make_shared<BatchSearches>();
  for (const auto& [batch, length] : {std::pair{2, 5}, {3, 5}, {2, 7}, {3, 7}})
    run_pipeline(graph, {bind_shapes({.by_name = {{"x", Shape{batch, length}}}}, searches)});
  EXPECT_EQ(searches->made(), 2u);
}

}  // namespace
}  // namespace halfstep::testing
