// Random variations of the table's cases.
#include "conformance/draw_case.h"

#include <set>

#include <gtest/gtest.h>

#include "conformance/gradient_check.h"

namespace halfstep {
namespace {

constexpr std::int64_t kLimit = 4096;

std::optional<ConformanceCase> draw(const OpDef& op, std::size_t number, DType dtype = DType::undefined) {
  return draw_case(op, 0, {.seed = 3, .number = number}, dtype, kLimit);
}

TEST(DrawCase, IsAFunctionOfSeedAndNumber) {
  const OpDef& op = *find_op("Add");
  std::set<std::string> shapes;
  for (std::size_t i = 0; i < 20; ++i) {
    const auto first = draw(op, i), second = draw(op, i);
    ASSERT_EQ(first.has_value(), second.has_value());
    if (!first) continue;
    ASSERT_EQ(first->inputs.size(), 2u);
    EXPECT_TRUE(identical(first->inputs[0], second->inputs[0]));
    shapes.insert(first->inputs[0].shape().to_string());
  }
  EXPECT_GT(shapes.size(), 5u);
}

TEST(DrawCase, ReachesEmptyTensorsScalarsBroadcastsAndOtherTypes) {
  const OpDef& op = *find_op("Add");
  bool empty = false, scalar = false, broadcast = false;
  std::set<DType> types;
  for (std::size_t i = 0; i < 100; ++i) {
    const auto made = draw(op, i);
    if (!made) continue;
    const Tensor &a = made->inputs[0], &b = made->inputs[1];
    empty |= a.count() == 0;
    scalar |= a.shape().rank() == 0;
    broadcast |= a.shape() != b.shape();
    types.insert(a.dtype());
  }
  EXPECT_TRUE(empty);
  EXPECT_TRUE(scalar);
  EXPECT_TRUE(broadcast);
  EXPECT_GT(types.size(), 5u);
}

TEST(DrawCase, ReachesOtherAxes) {
  const OpDef& op = *find_op("Softmax");
  std::set<std::int64_t> axes;
  for (std::size_t i = 0; i < 50; ++i)
    if (const auto made = draw_case(op, 1, {.seed = 3, .number = i}, DType::f32, kLimit))
      axes.insert(made->graph.nodes[0].attributes.get_int("axis", -1));
  EXPECT_GT(axes.size(), 2u);
  EXPECT_LT(*axes.begin(), 0);
}

TEST(DrawCase, StaysWithinTheLimit) {
  for (const OpDef* op : op_table()) {
    if (op->cases.empty()) continue;
    const auto made = draw_case(*op, 0, {.seed = 5, .number = 0}, DType::f32, 100);
    if (!made) continue;
    std::int64_t elements = 0;
    for (const Tensor& input : made->inputs) elements += input.count();
    EXPECT_LE(elements, 100) << op->name;
  }
}

TEST(DrawCase, NormalizesMoreThanTwoNumbers) {
  std::size_t drawn = 0;
  for (std::size_t i = 0; i < 60; ++i) {
    if (const auto layer = draw(*find_op("LayerNormalizationGrad", kOwnDomain), i)) {
      ++drawn;
      EXPECT_TRUE(layer->inputs[1].shape().dim(-1) > 2 || layer->inputs[1].count() == 0) << i;
    }
    if (const auto batch = draw(*find_op("BatchNormalizationGrad", kOwnDomain), i)) {
      ++drawn;
      const Shape& x = batch->inputs[1].shape();
      EXPECT_TRUE(x.count() > 2 * x[1] || x.count() == 0) << i;
    }
  }
  EXPECT_GT(drawn, 60u);
}

// Nearer to a kink than the step of the differences, which then see both sides of it.
TEST(GradientCheck, FindsTheSlopeBesideAKink) {
  OpDef op = *find_op("Abs");
  op.cases = {{"(float[9] x) => (float[9] y) { y = Abs(x) }", -9e-6, 9e-6}};
  const CheckReport report = check_gradient(op, 0);
  EXPECT_EQ(report.result, CheckResult::passed) << report.message;
}

TEST(RandomChecks, FindAWrongRule) {
  OpDef op = *find_op("Tanh");
  op.gradient = no_gradient;
  std::size_t failed = 0;
  for (std::size_t i = 0; i < 10; ++i) failed += !check_gradient(op, 0, Draw{.seed = 1, .number = i}).ok();
  EXPECT_GT(failed, 4u);  // nothing is wrong with the gradient of an empty tensor
}

}  // namespace
}  // namespace halfstep
