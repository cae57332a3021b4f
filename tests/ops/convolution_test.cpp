// What the gradients of convolutions refuse.
#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

Tensor zeros(const Shape& shape) { return Tensor(DType::f32, shape); }

// A 3 x 3 kernel with padding makes [1, 2, 5, 7] of the same extents, so that only those of the gradient can be wrong.
Tensor weight_gradient(const Shape& dy) {
  return run_own(
      "ConvGradWeight", {zeros(dy), zeros({1, 2, 5, 7})}, 1,
      {{"weight_shape", std::vector<std::int64_t>{4, 2, 3, 3}}, {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}})[0];
}
Tensor input_gradient(const Shape& dy) {
  return run_own(
      "ConvGradInput", {zeros(dy), zeros({4, 2, 3, 3})}, 1,
      {{"input_shape", std::vector<std::int64_t>{1, 2, 5, 7}}, {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}})[0];
}

TEST(ConvolutionGradients, TakeAGradientOfTheOutputsShape) {
  EXPECT_EQ(weight_gradient({1, 4, 5, 7}).shape(), (Shape{4, 2, 3, 3}));
  EXPECT_EQ(input_gradient({1, 4, 5, 7}).shape(), (Shape{1, 2, 5, 7}));
}

TEST(ConvolutionGradients, RefuseAnotherShapeOfAsManyElements) {
  for (const Shape& dy :
       {Shape{1, 4, 7, 5}, Shape{1, 4, 35}, Shape{1, 4, 1, 5, 7}, Shape{1, 4, 1, 1, 5, 7}, Shape{4, 35}}) {
    EXPECT_THROW(weight_gradient(dy), Error) << dy.to_string();
    EXPECT_THROW(input_gradient(dy), Error) << dy.to_string();
  }
}

}  // namespace
}  // namespace halfstep
