// PhiloxDropout's random numbers, and Dropout's modes.
#include <algorithm>

#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

Tensor ones(std::int64_t count) { return Tensor::of(std::vector<float>(static_cast<std::size_t>(count), 1.0F)); }

std::vector<Tensor> philox(const Tensor& x, float ratio, std::int64_t counter, std::int64_t seed,
                           std::int64_t stream = 0) {
  return run_own("PhiloxDropout", {x, Tensor::scalar(ratio), Tensor::scalar(counter)}, 2,
                 {{"seed", seed}, {"stream", stream}});
}

TEST(PhiloxDropout, KeepsTheShareItShouldAndScalesIt) {
  const std::vector<Tensor> out = philox(ones(10000), 0.25F, 7, 42);
  const auto values = out[0].span<float>();
  const auto mask = out[1].span<bool>();
  const auto kept = std::count(mask.begin(), mask.end(), true);
  EXPECT_NEAR(static_cast<double>(kept), 7500, 4 * 43.3);  // four standard deviations
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], mask[i] ? 1 / 0.75F : 0) << i;
}

TEST(PhiloxDropout, IsAFunctionOfSeedStreamCounterAndPosition) {
  const Tensor mask = philox(ones(64), 0.5F, 7, 42)[1];
  EXPECT_TRUE(identical(mask, philox(ones(64), 0.5F, 7, 42)[1]));
  EXPECT_TRUE(identical(mask.rows(0, 13), philox(ones(13), 0.5F, 7, 42)[1]));
  EXPECT_FALSE(identical(mask, philox(ones(64), 0.5F, 8, 42)[1]));
  EXPECT_FALSE(identical(mask, philox(ones(64), 0.5F, 7, 43)[1]));
  EXPECT_FALSE(identical(mask, philox(ones(64), 0.5F, 7, 42, 1)[1]));
}

TEST(PhiloxDropout, KeepsAllAtRatioZero) { EXPECT_TRUE(identical(philox(ones(9), 0, 7, 42)[0], ones(9))); }

TEST(Dropout, RefusesRatiosThatLeaveNothing) {
  for (const float ratio : {1.0F, -0.1F, 2.0F}) {
    EXPECT_THROW(philox(ones(4), ratio, 0, 0), Error) << ratio;
    EXPECT_THROW(run_op("Dropout", kOnnxDomain, {ones(4), Tensor::scalar(ratio), Tensor::scalar(true)}, 1), Error);
  }
}

TEST(Dropout, IsTheIdentityOutsideTraining) {
  const std::vector<Tensor> out =
      run_op("Dropout", kOnnxDomain, {ones(16), Tensor::scalar(0.5F), Tensor::scalar(false)}, 2);
  EXPECT_TRUE(identical(out[0], ones(16)));
  EXPECT_EQ(std::count(out[1].data<bool>(), out[1].data<bool>() + 16, true), 16);
}

}  // namespace
}  // namespace halfstep
