// What Pad fills with.
#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

Tensor pad_columns(const Tensor& x, const Tensor& fill) {
  return run_op("Pad", kOnnxDomain, {x, Tensor::of<std::int64_t>({0, 1, 0, 1}), fill}, 1)[0];
}

TEST(Pad, TakesAScalarOrATensorOfOneElement) {
  const Tensor x = Tensor::of<float>({1, 2}, {2, 1}), padded = Tensor::of<float>({7, 1, 7, 7, 2, 7}, {2, 3});
  EXPECT_TRUE(identical(pad_columns(x, Tensor::scalar(7.0F)), padded));
  EXPECT_TRUE(identical(pad_columns(x, Tensor::of<float>({7})), padded));
}

TEST(Pad, RefusesSeveralElements) {
  const Tensor two = Tensor::of<float>({7, 8});
  EXPECT_THROW(pad_columns(Tensor::of<float>({1, 2}, {2, 1}), two), Error);
  EXPECT_THROW(pad_columns(Tensor(DType::f32, {0, 1}), two), Error);  // with nothing to fill
}

}  // namespace
}  // namespace halfstep
