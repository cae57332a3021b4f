// Which nodes train in half precision, and the casts and constants around them.
#include <cmath>

#include "tests/passes/pass_testing.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::ElementsAre;

Graph painted(const std::string& text, DType half = DType::f16) {
  return run_passes(text, {select_parameters(), mixed_precision({.half = half, .keep_full_ops = {}})});
}

DType type_into(const Graph& graph, const std::string& op, std::size_t input = 0) {
  return graph[node_of(graph, op)->inputs[input]].dtype;
}

TEST(Precision, NormalisationGoesWithItsProductsAndSoftmaxDoesNot) {
  const Graph graph = painted(R"((float[2,4] x) => (float[2,4] y)
      <float[4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}, float[4] s = {1,1,1,1}, float[4] b = {1,2,3,4}> {
        a = MatMul(x, w)
        n = LayerNormalization(a, s, b)
        c = MatMul(n, w)
        y = Softmax(c)
      })");
  EXPECT_EQ(type_into(graph, "LayerNormalization"), DType::f16);
  EXPECT_EQ(type_into(graph, "Softmax"), DType::f32);
}

TEST(Precision, AnEmbeddingTableIsNotCastForAFewRows) {
  const Graph graph = painted(R"((int64[2] ids) => (float[2,2] y)
      <float[4,2] table = {1,2,3,4,5,6,7,8}, float[2,2] w = {1,2,3,4}> {
        e = Gather(table, ids)
        y = MatMul(e, w)
      })");
  EXPECT_EQ(type_into(graph, "Gather"), DType::f32);
  EXPECT_EQ(type_into(graph, "MatMul"), DType::f16);
  EXPECT_EQ(type_into(graph, "Gather", 1), DType::i64);
}

TEST(Precision, MasksStayFiniteInHalf) {
  for (const char* low : {"-1e9", "-3.4028234e38"}) {
    const Graph graph = painted(std::string(R"((float[2,2] x, bool[2,2] keep) => (float[2,2] y)
        <float[2,2] w = {1,2,3,4}> {
          low = Constant<value_float = )") +
                                low + R"(>()
          s = MatMul(x, w)
          t = Where(keep, s, low)
          u = Transpose(t)
          m = Add(u, t)
          p = Softmax(m)
          y = MatMul(p, w)
        })");
    for (const Value& value : graph.values) {
      if (!value.is_constant() || !is_half(value.dtype)) continue;
      for (double x : to_doubles(value.constant)) EXPECT_TRUE(std::isfinite(x)) << low;
    }
    Compiled step(graph);
    step.set("x", Tensor::of<float>({1, 2, 3, 4}, Shape{2, 2}));
    Tensor keep(DType::boolean, Shape{2, 2});
    keep.data<bool>()[2] = true;  // the first row is masked as a whole
    step.set("keep", keep);
    step.program->run();
    for (double y : step.get("y")) EXPECT_FALSE(std::isnan(y)) << low;
  }
}

TEST(Precision, F32NodesReadABoundOfHalfOnesAsItIs) {
  const Graph graph = painted(R"((float[2,2] x) => (float[2,2] y, float[2,2] z)
      <float[2,2] w = {1,0,0,1}, float hi = {1000000}> {
        m = MatMul(x, w)
        c = Clip(m, , hi)
        y = MatMul(c, w)
        e = Exp(x)
        d = Clip(e, , hi)
        z = Log(d)
      })");
  const Node* clip = node_of(graph, "Clip");
  ASSERT_EQ(graph[clip->inputs[2]].dtype, DType::f16);
  EXPECT_THAT(to_doubles(graph[clip->inputs[2]].constant), ElementsAre(65504));
  Compiled step(graph);
  step.set("x", Tensor::of<float>({1, 2, 12, 20}, Shape{2, 2}));
  step.program->run();
  const std::vector<double> z = step.get("z");
  EXPECT_NEAR(z[2], 12, 1e-5);
  EXPECT_NEAR(z[3], std::log(1e6), 1e-5);
}

TEST(Precision, MasksAreAddedInF32AndInfinitiesStay) {
  constexpr const char* kMasked = R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1,2,3,4}> {
        mask = Constant<value = float[2,2] {LOW,0,0,0}>()
        s = MatMul(x, w)
        m = Add(s, mask)
        p = Softmax(m)
        y = MatMul(p, w)
      })";
  const auto with = [&](const std::string& low) {
    std::string text = kMasked;
    return painted(text.replace(text.find("LOW"), 3, low));
  };
  EXPECT_EQ(type_into(with("-1e9"), "Add"), DType::f32);
  EXPECT_EQ(type_into(with("-1e3"), "Add"), DType::f16);
  const Graph infinite = with("-inf");
  EXPECT_EQ(type_into(infinite, "Add"), DType::f16);
  for (const Value& value : infinite.values) {
    if (!value.is_constant() || !value.name.starts_with("mask")) continue;
    EXPECT_EQ(to_doubles(value.constant)[0], -INFINITY);
  }
}

TEST(Precision, ASquareIsNotTakenInHalf) {
  const Graph graph = painted(R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1,2,3,4}> { a = MatMul(x, w) b = Mul(a, a) y = MatMul(b, w) })");
  EXPECT_EQ(type_into(graph, "Mul"), DType::f32);
}

TEST(Precision, AnIslandThatWouldCostMoreCastsThanItSavesStaysF32) {
  const Graph graph = painted(R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1,2,3,4}> {
        a = MatMul(x, w)
        b = Exp(a)
        c = Relu(b)
        d = Exp(c)
        y = MatMul(d, w)
      })");
  EXPECT_EQ(type_into(graph, "Relu"), DType::f32);
}

TEST(Precision, ShapesAreAskedForWithoutACast) {
  const Graph graph = painted(R"((float[2,2] x) => (float[2,2] y, int64[2] s)
      <float[2,2] w = {1,2,3,4}> { a = MatMul(x, w) s = Shape(a) y = Relu(a) })");
  EXPECT_EQ(type_into(graph, "Shape"), DType::f16);
}

TEST(Precision, BodiesOfControlFlowReadF32) {
  const Graph graph = painted(R"((float[2,2] x, bool b) => (float[2,2] y)
      <float[2,2] w = {1,2,3,4}> {
        h = MatMul(x, w)
        c = If(b) <
          then_branch = t () => (float[2,2] p) { p = Relu(h) },
          else_branch = e () => (float[2,2] r) { r = Neg(h) }>
        y = MatMul(c, w)
      })");
  EXPECT_EQ(type_into(graph, "If", 1), DType::f32);
  EXPECT_EQ(type_into(graph, "MatMul"), DType::f16);
}

}  // namespace
}  // namespace halfstep
