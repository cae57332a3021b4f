// Masks of Attention that hide everything or overflow a half type, and input that does not fit.
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;

Tensor filled(DType dtype, Shape shape, double value) {
  Tensor t(DType::f64, std::move(shape));
  for (double& x : t.span<double>()) x = value;
  return convert(t, dtype);
}

Tensor values_0_1(DType dtype) { return convert(Tensor::of<float>({0, 1}, {1, 1, 2, 1}), dtype); }

TEST(Attention, HiddenQueryGivesZeros) {
  Tensor mask(DType::boolean, {2, 2});
  mask.data<bool>()[2] = true;
  const std::vector<Tensor> y = run_op("Attention", kOnnxDomain,
                                       {filled(DType::f32, {1, 1, 2, 3}, 1), filled(DType::f32, {1, 1, 2, 3}, 1),
                                        filled(DType::f32, {1, 1, 2, 1}, 5), mask},
                                       1);
  EXPECT_THAT(y[0].span<float>(), ElementsAre(0, 5));
}

// Hidden by a number rather than by -infinity: in f16 the mask is as good as infinite, and nothing may become NaN.
TEST(Attention, LargeNegativeMaskIsSafeInHalf) {
  for (double hidden : {-1e9, static_cast<double>(std::numeric_limits<float>::lowest())}) {
    const Tensor mask = Tensor::of<float>({0, static_cast<float>(hidden)}, {1, 2});
    const std::vector<Tensor> y = run_op(
        "Attention", kOnnxDomain,
        {filled(DType::f16, {1, 1, 1, 3}, 1), filled(DType::f16, {1, 1, 2, 3}, 1), values_0_1(DType::f16), mask}, 1);
    EXPECT_THAT(to_doubles(y[0]), ElementsAre(0));
  }
}

TEST(Attention, ShorterMaskHidesTheRest) {
  const std::vector<Tensor> y = run_op("Attention", kOnnxDomain,
                                       {filled(DType::f32, {1, 1, 1, 3}, 1), filled(DType::f32, {1, 1, 2, 3}, 1),
                                        values_0_1(DType::f32), filled(DType::f32, {1, 1}, 0)},
                                       1);
  EXPECT_THAT(to_doubles(y[0]), ElementsAre(0));
}

TEST(Attention, RefusesOperandsThatDoNotFit) {
  const Tensor q = filled(DType::f32, {1, 3, 2, 4}, 1), two_heads = filled(DType::f32, {1, 2, 2, 4}, 1);
  const Tensor k = filled(DType::f32, {1, 3, 2, 4}, 1), narrow = filled(DType::f32, {1, 3, 2, 3}, 1);
  EXPECT_THROW(run_op("Attention", kOnnxDomain, {q, two_heads, two_heads}, 1), Error);  // 3 heads are no groups of 2
  EXPECT_THROW(run_op("Attention", kOnnxDomain, {q, narrow, k}, 1), Error);
  EXPECT_THROW(run_op("Attention", kOnnxDomain, {q, k, k, filled(DType::f32, {5, 2, 2}, 0)}, 1), Error);
  EXPECT_THROW(run_op("Attention", kOnnxDomain, {q, k, k}, 4, {{"qk_matmul_output_mode", std::int64_t{7}}}), Error);
}

TEST(RotaryEmbedding, RefusesPositionsOutsideTheCaches) {
  const Tensor x = filled(DType::f32, {1, 1, 2, 4}, 1), cache = filled(DType::f32, {3, 2}, 1);
  EXPECT_NO_THROW(
      run_op("RotaryEmbedding", kOnnxDomain, {x, cache, cache, Tensor::of<std::int64_t>({0, 2}, {1, 2})}, 1));
  EXPECT_THROW(run_op("RotaryEmbedding", kOnnxDomain, {x, cache, cache, Tensor::of<std::int64_t>({0, 3}, {1, 2})}, 1),
               Error);
  EXPECT_THROW(run_op("RotaryEmbedding", kOnnxDomain, {x, cache, cache, Tensor::of<std::int64_t>({0, 1}, {1, 2})}, 1,
                      {{"rotary_embedding_dim", std::int64_t{3}}}),
               Error);
}

}  // namespace
}  // namespace halfstep
