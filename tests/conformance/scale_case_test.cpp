// The table's cases with larger extents.
#include "conformance/scale_case.h"

#include <algorithm>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace halfstep {
namespace {

using ::testing::Each;
using ::testing::Gt;
using ::testing::SizeIs;

const Scale& large = kScales[0];
const Scale& odd = kScales[1];

std::vector<std::int64_t> extents_of(const Tensor& tensor) { return {tensor.shape().begin(), tensor.shape().end()}; }

TEST(ScaleCase, EnlargesEveryExtentOfAnElementwiseOperator) {
  for (const Scale& scale : kScales) {
    const auto made = scale_case(*find_op("Add"), 0, DType::f32, scale);
    ASSERT_TRUE(made);
    ASSERT_THAT(made->inputs, SizeIs(2));
    EXPECT_THAT(extents_of(made->inputs[0]), Each(Gt(16)));
    EXPECT_EQ(made->inputs[0].shape(), made->inputs[1].shape());
  }
}

TEST(ScaleCase, OddExtentsAreOdd) {
  const auto made = scale_case(*find_op("Relu"), 0, DType::bf16, odd);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->inputs[0].dtype(), DType::bf16);
  for (const std::int64_t extent : extents_of(made->inputs[0])) EXPECT_EQ(extent % 2, 1);
}

TEST(ScaleCase, KeepsIndicesOfAScatter) {
  const auto made = scale_case(*find_op("ScatterND"), 0, DType::f32, large);
  ASSERT_TRUE(made);
  const Value& indices = made->graph[made->graph.find("i")];
  EXPECT_EQ(to_int64s(indices.constant), (std::vector<std::int64_t>{3, 1}));
}

// Those whose cases have fixed extents, or no float inputs to enlarge, are few, and known.
TEST(ScaleCase, ReachesMostOperators) {
  std::size_t enlarged = 0, with_floats = 0;
  for (const OpDef* op : op_table()) {
    bool has_floats = false, larger = false;
    for (std::size_t i = 0; i < op->cases.size(); ++i) {
      const auto made = make_case(*op, i, DType::f32);
      if (made && !made->inputs.empty() && made->inputs[0].shape().rank() > 0) has_floats = true;
      larger = larger || scale_case(*op, i, DType::f32, large);
    }
    with_floats += has_floats;
    enlarged += larger;
    if (has_floats && !larger) std::cout << "not enlarged: " << qualified_name(*op) << "\n";
  }
  EXPECT_GT(enlarged * 10, with_floats * 9);
}

}  // namespace
}  // namespace halfstep
