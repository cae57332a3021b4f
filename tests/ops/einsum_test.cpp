// Shapes of Einsum's results.
#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>

namespace halfstep {
namespace {

constexpr std::int64_t kUnknown = Shape::kUnknown;

Shape einsum_shape(const std::string& equation, const std::vector<Shape>& operands) {
  Graph graph;
  Builder b(graph);
  std::vector<Expr> inputs;
  for (const Shape& shape : operands)
    inputs.push_back(b.expr(graph.add_input("x" + std::to_string(inputs.size()), DType::f32, shape)));
  return b.op("Einsum", inputs, {{"equation", equation}}).shape();
}

struct EinsumShape {
  const char* equation;
  std::vector<Shape> operands;
  Shape result;
};

class EinsumShapes : public ::testing::TestWithParam<EinsumShape> {};

TEST_P(EinsumShapes, AreInferred) {
  EXPECT_EQ(einsum_shape(GetParam().equation, GetParam().operands), GetParam().result) << GetParam().equation;
}

INSTANTIATE_TEST_SUITE_P(
    Einsum, EinsumShapes,
    ::testing::Values(EinsumShape{"ij,jk->ik", {{2, 3}, {3, 4}}, {2, 4}},
                      EinsumShape{"ij,ij->ij", {{2, 1}, {2, 4}}, {2, 4}},  // an axis of extent 1 is broadcast,
                      EinsumShape{"ij,ij->ij", {{2, 4}, {2, 1}}, {2, 4}},  // whichever operand has it
                      EinsumShape{"bi,bi->b", {{1, 3}, {2, 3}}, {2}},
                      EinsumShape{"...i,...i->...", {{2, 1, 3}, {1, 4, 3}}, {2, 4}},
                      EinsumShape{"ba, b", {{2, 3}, {1}}, {3}}, EinsumShape{"ij,ij->", {{2, 3}, {2, 3}}, {}},
                      EinsumShape{"i,i->i", {{1}, {0}}, {0}},
                      // An unknown extent is another operand's when that one has more than 1.
                      EinsumShape{"bi,bi->b", {{kUnknown, 3}, {2, 3}}, {2}},
                      EinsumShape{"bi,bi->b", {{2, 3}, {kUnknown, 3}}, {2}},
                      EinsumShape{"bi,bi->b", {{1, 3}, {kUnknown, 3}}, {kUnknown}},
                      EinsumShape{"bi,io->bo", {{kUnknown, 3}, {3, 4}}, {kUnknown, 4}},
                      EinsumShape{"ij,jk->ik", {{2, 3}, Shape::unranked()}, Shape::unranked()}));

TEST(Einsum, RefusesExtentsThatDoNotFit) {
  EXPECT_THROW(einsum_shape("ij,jk->ik", {{2, 3}, {4, 5}}), Error);
  EXPECT_THROW(einsum_shape("ij,jk->ik", {{2, 3}, {3}}), Error);
}

TEST(Einsum, RefusesAnOperandThatIsLeftOut) {
  Graph graph;
  Builder b(graph);
  const Expr x = b.expr(graph.add_input("x", DType::f32, Shape{2}));
  EXPECT_THROW(b.op("Einsum", {x, Expr(), x}, {{"equation", "i,i,i->i"}}), Error);
  EXPECT_THROW(b.op("Concat", {x, Expr(), x}, {{"axis", std::int64_t{0}}}), Error);
}

}  // namespace
}  // namespace halfstep
