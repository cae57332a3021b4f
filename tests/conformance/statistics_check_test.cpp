// Random draws held against their distribution: right ones pass on every executor, and each way to be wrong is found.
#include "conformance/statistics_check.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/philox.h"
#include "conformance/distribution_check.h"

namespace halfstep {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t kCount = 1 << 14;

Tensor ones() { return Tensor::of(std::vector<float>(kCount, 1.0F)); }

/// Which elements are kept when one number in [0, 1) is drawn for every `run` of them.
Tensor draw_mask(double ratio, std::uint64_t seed, std::int64_t run = 1) {
  Tensor mask(DType::boolean, {kCount});
  for (std::int64_t i = 0; i < kCount; ++i)
    mask.data<bool>()[i] =
        uniform_float(philox4x32_10({static_cast<std::uint32_t>(i / run), 0, 0, 0}, philox_key(seed))[0]) >= ratio;
  return mask;
}

Tensor applied(const Tensor& mask, double scale) {
  Tensor y(DType::f32, {kCount});
  for (std::int64_t i = 0; i < kCount; ++i) y.data<float>()[i] = mask.data<bool>()[i] ? static_cast<float>(scale) : 0;
  return y;
}

TEST(DropoutFault, IsNoneInAnIndependentDraw) {
  for (const double ratio : {0.1, 0.5, 0.9}) {
    const Tensor mask = draw_mask(ratio, 1);
    EXPECT_THAT(dropout_fault(ones(), ratio, applied(mask, 1 / (1 - ratio)), mask), IsEmpty()) << ratio;
  }
}

TEST(DropoutFault, IsAnotherShare) {
  const Tensor mask = draw_mask(0.3, 1);
  EXPECT_THAT(dropout_fault(ones(), 0.25, applied(mask, 1 / 0.75), mask), HasSubstr("of 16384 dropped"));
}

TEST(DropoutFault, IsOneDrawForSeveralElements) {
  for (const std::int64_t run : {2, 8, 32}) {
    const Tensor mask = draw_mask(0.5, 1, run);
    EXPECT_THAT(dropout_fault(ones(), 0.5, applied(mask, 2), mask), HasSubstr("pairs at a distance of 1")) << run;
  }
}

TEST(DropoutFault, IsAnotherScale) {
  const Tensor mask = draw_mask(0.5, 1);
  EXPECT_THAT(dropout_fault(ones(), 0.5, applied(mask, 1), mask), HasSubstr("by the mask"));
}

TEST(DropoutFault, IsAMaskThatTellsSomethingElse) {
  const Tensor mask = draw_mask(0.5, 1);
  EXPECT_THAT(dropout_fault(ones(), 0.5, applied(mask, 2), draw_mask(0.5, 2)), HasSubstr("by the mask"));
  EXPECT_THAT(dropout_fault(ones(), 0.5, applied(mask, 2), convert(mask, DType::f32)), HasSubstr("bool"));
}

TEST(MaskDependence, IsFoundInEqualAndInSimilarMasks) {
  const Tensor mask = draw_mask(0.5, 1);
  EXPECT_THAT(mask_dependence(mask, draw_mask(0.5, 2), 0.5), IsEmpty());
  EXPECT_THAT(mask_dependence(mask, mask, 0.5), HasSubstr("treated alike"));
  Tensor half = draw_mask(0.5, 2);
  std::copy_n(mask.data<bool>(), kCount / 2, half.data<bool>());
  EXPECT_THAT(mask_dependence(mask, half, 0.5), HasSubstr("treated alike"));
}

std::vector<double> uniform_numbers(std::uint64_t seed, std::int64_t run = 1) {
  std::vector<double> numbers(kCount);
  for (std::int64_t i = 0; i < kCount; ++i)
    numbers[static_cast<std::size_t>(i)] =
        uniform_float(philox4x32_10({static_cast<std::uint32_t>(i / run), 0, 0, 0}, philox_key(seed))[0]);
  return numbers;
}

TEST(DistributionFault, IsFoundInWrongNumbers) {
  const double deviation = std::sqrt(1.0 / 12);
  const ExpectedDraws uniform{0.5, deviation, [](double x) { return std::clamp(x, 0.0, 1.0); }};
  const std::vector<double> right = uniform_numbers(1);
  EXPECT_THAT(distribution_fault(right, uniform, 0), IsEmpty());
  EXPECT_THAT(correlation_fault(right, uniform_numbers(2), uniform), IsEmpty());
  EXPECT_THAT(correlation_fault(right, right, uniform), HasSubstr("a correlation"));
  EXPECT_THAT(distribution_fault(right, {0.52, deviation}, 0), HasSubstr("a mean"));
  EXPECT_THAT(distribution_fault(right, {0.5, deviation * 1.03}, 0), HasSubstr("a variance"));
  EXPECT_THAT(distribution_fault(uniform_numbers(1, 2), uniform, 0), HasSubstr("a correlation at a distance of 1"));
  // Two points have the mean and the variance, too.
  std::vector<double> points = right;
  for (double& x : points) x = 0.5 + (x < 0.5 ? -deviation : deviation);
  EXPECT_THAT(distribution_fault(points, uniform, 0), HasSubstr("shares below a number"));
}

TEST(StatisticsCheck, PassesForEveryOperatorThatDraws) {
  std::size_t drawing = 0;
  for (const OpDef* op : op_table()) {
    if (!draws_at_random(*op)) continue;
    ++drawing;
    for (const auto& executor : {make_reference_executor(), make_onednn_executor()})
      for (const DType dtype : kDrawnTypes) {
        const CheckReport report = check_statistics(*op, dtype, *executor);
        EXPECT_EQ(report.result, CheckResult::passed)
            << report.case_name << " in " << name_of(dtype) << " on " << executor->name() << ": " << report.message;
      }
  }
  EXPECT_EQ(drawing, 9u);
}

}  // namespace
}  // namespace halfstep
