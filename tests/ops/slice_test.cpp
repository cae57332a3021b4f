// Where Slice begins and ends when its bounds lie outside: ONNX Runtime's values.
#include <gtest/gtest.h>

#include "tests/ops/run_op.h"

namespace halfstep {
namespace {

using Ints = std::vector<std::int64_t>;

struct Bounds {
  std::int64_t start, end, step;
  std::vector<float> taken;  // of {0, 1, 2, 3, 4}
};

class SliceBounds : public ::testing::TestWithParam<Bounds> {};

TEST_P(SliceBounds, AreClamped) {
  const auto& [start, end, step, taken] = GetParam();
  Graph graph;
  Builder b(graph);
  const Expr x = b.expr(graph.add_input("x", DType::f32, {5}));
  graph.outputs.push_back(
      b.op("Slice", {x, b.ints(Ints{start}), b.ints(Ints{end}), b.ints(Ints{0}), b.ints(Ints{step})}).id());
  const Tensor wanted = Tensor::of<float>(taken, {static_cast<std::int64_t>(taken.size())});
  EXPECT_EQ(graph[graph.outputs[0]].shape, wanted.shape());
  EXPECT_TRUE(identical(run_graph(graph, {Tensor::of<float>({0, 1, 2, 3, 4})})[0], wanted));
}

INSTANTIATE_TEST_SUITE_P(Outside, SliceBounds,
                         ::testing::Values(Bounds{-100, -1000, -1, {0}}, Bounds{-100, -1000, -3, {0}},
                                           Bounds{-100, 1000, -1, {}}, Bounds{100, -1000, -2, {4, 2, 0}},
                                           Bounds{100, 1000, -1, {}}, Bounds{-100, 1000, 2, {0, 2, 4}},
                                           Bounds{100, 1000, 1, {}}, Bounds{-6, -7, -1, {0}}));

}  // namespace
}  // namespace halfstep
