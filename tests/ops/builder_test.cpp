#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>

namespace halfstep {
namespace {

TEST(Expr, AnEmptyOneCannotBeComputedWith) {
  Graph graph;
  Builder b(graph);
  const Expr x = b.expr(graph.add_input("x", DType::f32, Shape{2, 3}));
  EXPECT_THROW(Expr().builder(), Error);
  EXPECT_THROW(Expr().shape(), Error);
  EXPECT_THROW(b.expr(kNoValue).dtype(), Error);
  EXPECT_THROW(Expr() * x, Error);
  EXPECT_THROW(2.0 - Expr(), Error);
  EXPECT_TRUE(graph.nodes.empty());
}

TEST(Builder, MakesEqualScalarsAndIntsOnce) {
  Graph graph;
  Builder b(graph);
  EXPECT_EQ(b.scalar(2, DType::f32).id(), b.scalar(2, DType::f32).id());
  EXPECT_NE(b.scalar(2, DType::f32).id(), b.scalar(2, DType::f64).id());
  EXPECT_EQ(b.ints({0, 1}).id(), b.ints({0, 1}).id());
  EXPECT_NE(b.ints({0, 1}).id(), b.ints({1, 0}).id());
}

TEST(Builder, SumsToTheShapeThatWasBroadcast) {
  Graph graph;
  Builder b(graph);
  const Expr x = b.expr(graph.add_input("x", DType::f32, Shape{4, 2, 3}));
  EXPECT_EQ(b.sum_to(x, Shape{4, 2, 3}).id(), x.id());
  EXPECT_EQ(b.sum_to(x, Shape{2, 1}).shape(), (Shape{2, 1}));
  EXPECT_EQ(b.sum_to(x, Shape{}).shape(), Shape{});
  EXPECT_THROW(b.sum_to(b.scalar(1, DType::f32), Shape{2}), Error);
}

// It would be a scalar: the shape operand has no extents.
TEST(Builder, DoesNotReshapeToAnUnknownRank) {
  Graph graph;
  Builder b(graph);
  const Expr x = b.expr(graph.add_input("x", DType::f32, Shape{1}));
  EXPECT_THROW(b.reshape(x, Shape::unranked()), Error);
  EXPECT_THROW(b.sum_to(x, Shape::unranked()), Error);
}

}  // namespace
}  // namespace halfstep
