// Batch normalization in every layout against sums in double.
#include "executors/onednn/simd/batch_norm.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

std::size_t z(std::int64_t i) { return static_cast<std::size_t>(i); }

const BatchNormShape kShapes[] = {
    {2, 3, 35, 1, 3},       // NCHW
    {3, 2, 5000, 1, 2},     // of planes that are cut
    {1, 1, 77, 5, 5},       // NHWC, less than a vector
    {1, 1, 600, 150, 150},  // of channels that are cut, as are the positions
    {2, 2, 49, 16, 20},     // blocks of 16, the second one with 12 channels of padding
    {5, 3, 4, 8, 24},       // blocks of 8
    {1, 1, 1, 33, 33},      // one value a channel
    {2, 12, 400, 16, 190},  // more than is normalized while it lies in a cache
};

/// Elements in memory order with the padding's zeros; `at(channel, i)` is the channel's i-th element.
struct Blocked {
  const BatchNormShape& shape;

  std::size_t at(std::int64_t channel, std::int64_t i) const {
    const std::int64_t group = channel / shape.lanes, lane = channel % shape.lanes;
    const std::int64_t image = i / shape.positions, position = i % shape.positions;
    return z(((image * shape.groups + group) * shape.positions + position) * shape.lanes + lane);
  }
  void clear_padding(Array& array) const {
    for (std::int64_t c = shape.channels; c < shape.stored_channels(); ++c)
      for (std::int64_t i = 0; i < shape.per_channel(); ++i) array.set(at(c, i), 0);
  }
  Array random(DType dtype, double low, double high, unsigned seed) const {
    Array array = random_array(dtype, shape.stored(), low, high, seed);
    clear_padding(array);
    return array;
  }
  void expect_padding_is_zero(const Array& array) const {
    for (std::int64_t c = shape.channels; c < shape.stored_channels(); ++c)
      for (std::int64_t i = 0; i < shape.per_channel(); ++i) ASSERT_EQ(array[at(c, i)], 0);
  }
};

constexpr float kNone = std::numeric_limits<float>::infinity();
const std::optional<ops::Clamp> kClamps[] = {std::nullopt, ops::Clamp{0, kNone, true}, ops::Clamp{0, 1},
                                             ops::Clamp{-kNone, 0.5F}};

void check(const BatchNormShape& shape, DType dtype, const std::optional<ops::Clamp>& clamp) {
  constexpr float kEpsilon = 1e-3F;
  const Blocked layout{shape};
  const Array x = layout.random(dtype, 1, 3, 1), dy = layout.random(dtype, -1, 1, 2);
  Array scale = random_array(DType::f32, shape.channels, 0.5, 2, 3);
  Array shift = random_array(DType::f32, shape.channels, -1, 1, 4);
  Array mean(DType::f32, shape.stored_channels()), variance(DType::f32, shape.stored_channels());
  Array dscale(DType::f32, shape.channels), dshift(DType::f32, shape.channels);
  const BatchNormKernel kernel = find_batch_norm(shape, kEpsilon, clamp, dtype);
  std::vector<char> scratch(kernel.scratch_bytes());
  const Array y = with_any_threads([&] {
    Array result(dtype, shape.stored());
    kernel.statistics(x.data(), mean.floats(), variance.floats(), scratch.data());
    kernel.normalize(x.data(), mean.floats(), variance.floats(), scale.floats(), shift.floats(), result.data(),
                     scratch.data());
    return result;
  });
  const Array own = with_any_threads([&] {
    Array result(dtype, shape.stored()), m(DType::f32, shape.stored_channels()), v(DType::f32, shape.stored_channels());
    kernel.normalize_by_own(x.data(), scale.floats(), shift.floats(), m.floats(), v.floats(), result.data(),
                            scratch.data());
    for (std::int64_t c = 0; c < shape.stored_channels(); ++c) {
      EXPECT_EQ(m[z(c)], mean[z(c)]);
      EXPECT_EQ(v[z(c)], variance[z(c)]);
    }
    return result;
  });
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(own[i], y[i]);
  const Array dx = with_any_threads([&] {
    Array result(dtype, shape.stored());
    kernel.gradient(dy.data(), x.data(), mean.floats(), variance.floats(), scale.floats(), shift.floats(), true,
                    result.data(), dscale.floats(), dshift.floats(), scratch.data());
    return result;
  });
  Array given(dtype, shape.stored());  // the gradient when the statistics do not depend on x
  kernel.gradient(dy.data(), x.data(), mean.floats(), variance.floats(), scale.floats(), shift.floats(), false,
                  given.data(), nullptr, nullptr, scratch.data());
  EXPECT_TRUE(y.guard_intact() && dx.guard_intact() && mean.guard_intact() && dscale.guard_intact());
  layout.expect_padding_is_zero(y);
  layout.expect_padding_is_zero(dx);

  const auto n = static_cast<double>(shape.per_channel());
  for (std::int64_t c = 0; c < shape.channels; ++c) {
    double m = 0, v = 0, sum = 0, product = 0;
    for (std::int64_t i = 0; i < shape.per_channel(); ++i) m += x[layout.at(c, i)] / n;
    for (std::int64_t i = 0; i < shape.per_channel(); ++i) v += std::pow(x[layout.at(c, i)] - m, 2) / n;
    const double inverse = 1 / std::sqrt(v + static_cast<double>(kEpsilon)), factor = scale[z(c)] * inverse;
    auto result_at = [&](std::int64_t i) { return (x[layout.at(c, i)] - m) * factor + shift[z(c)]; };
    auto gradient = [&](std::int64_t i) { return clamp && !clamp->passes(result_at(i)) ? 0 : dy[layout.at(c, i)]; };
    for (std::int64_t i = 0; i < shape.per_channel(); ++i) {
      const double normal = (x[layout.at(c, i)] - m) * inverse, result = result_at(i);
      sum += gradient(i);
      product += gradient(i) * normal;
      ASSERT_TRUE(close(dtype, y[layout.at(c, i)], clamp ? (*clamp)(result) : result, 8, 4 * factor));
    }
    for (std::int64_t i = 0; i < shape.per_channel(); ++i) {
      const double normal = (x[layout.at(c, i)] - m) * inverse;
      const double want = factor * (gradient(i) - sum / n - normal * product / n);
      ASSERT_TRUE(close(dtype, dx[layout.at(c, i)], want, 16, 4 * factor));
      ASSERT_TRUE(close(dtype, given[layout.at(c, i)], factor * gradient(i), 8, factor));
    }
    ASSERT_TRUE(close(DType::f32, mean[z(c)], m, 4));
    ASSERT_TRUE(close(DType::f32, variance[z(c)], v, 16, 1e-3));
    ASSERT_TRUE(close(DType::f32, dshift[z(c)], sum, 8, n));
    ASSERT_TRUE(close(DType::f32, dscale[z(c)], product, 16, n * inverse));
  }
}

TEST(SimdBatchNorm, MatchesDouble) {
  for (const DType dtype : kFloats) {
    for (const auto& clamp : kClamps) {
      for (const BatchNormShape& shape : kShapes) {
        testing::Message trace;
        trace << name_of(dtype) << " " << shape.images << "x" << shape.groups << "x" << shape.positions << "x"
              << shape.lanes;
        if (clamp) trace << " in [" << clamp->low << ", " << clamp->high << "]";
        SCOPED_TRACE(trace);
        check(shape, dtype, clamp);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(SimdBatchNorm, KeepsTheDigitsOfALargeMean) {
  const BatchNormShape shape{4, 1, 5000, 1, 1};
  const Array x = random_array(DType::f32, shape.stored(), 9999, 10001);
  float mean = 0, variance = 0;
  const BatchNormKernel kernel = find_batch_norm(shape, 0, std::nullopt, DType::f32);
  std::vector<char> scratch(kernel.scratch_bytes());
  kernel.statistics(x.data(), &mean, &variance, scratch.data());
  double m = 0, v = 0;
  for (std::size_t i = 0; i < x.size(); ++i) m += x[i] / static_cast<double>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) v += std::pow(x[i] - m, 2) / static_cast<double>(x.size());
  EXPECT_NEAR(mean, m, 1e-3);
  EXPECT_NEAR(variance, v, 1e-5 * v);
}

TEST(SimdBatchNorm, NormalizesConstantsToTheShiftExactly) {
  for (const BatchNormShape& shape : kShapes) {
    Array x(DType::f32, shape.stored()), y = x;
    for (std::size_t i = 0; i < x.size(); ++i) x.set(i, 0.1F);
    std::vector<float> mean(z(shape.stored_channels())), variance = mean;
    const std::vector<float> scale(z(shape.channels), 3), shift(z(shape.channels), 0.7F);
    const BatchNormKernel kernel = find_batch_norm(shape, 1e-5F, std::nullopt, DType::f32);
    std::vector<char> scratch(kernel.scratch_bytes());
    kernel.statistics(x.data(), mean.data(), variance.data(), scratch.data());
    kernel.normalize(x.data(), mean.data(), variance.data(), scale.data(), shift.data(), y.data(), scratch.data());
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      EXPECT_EQ(variance[z(c)], 0);
      EXPECT_EQ(y[Blocked{shape}.at(c, 0)], 0.7F);
    }
  }
}

// What lies on a bound, beyond it, and NaN, with Relu's bounds and with Clip's.
TEST(SimdBatchNorm, ClampsAndTakesGradientsAtTheBounds) {
  struct Case {
    ops::Clamp clamp;
    float x, y, dx;
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kTiny = std::numeric_limits<float>::denorm_min();
  const ops::Clamp relu{0, kNone, true}, clip{0, 6}, crossed{2, 1};
  const Case cases[] = {{relu, -1, 0, 0},     {relu, 0, 0, 0},       {relu, kTiny, kTiny, 1}, {relu, kNone, kNone, 1},
                        {clip, -1, 0, 0},     {clip, 0, 0, 1},       {clip, 6, 6, 1},         {clip, 6.001F, 6, 0},
                        {clip, -kTiny, 0, 0}, {crossed, 1.5F, 1, 0}, {relu, kNan, kNan, 0},   {clip, kNan, kNan, 0}};
  const float zero = 0, one = 1;
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::Message() << c.x << " in [" << c.clamp.low << ", " << c.clamp.high << "]");
    float y = -1, dx = -1;
    const BatchNormKernel kernel = find_batch_norm({1, 1, 1, 1, 1}, 0, c.clamp, DType::f32);
    std::vector<char> scratch(kernel.scratch_bytes());
    kernel.normalize(&c.x, &zero, &one, &one, &zero, &y, scratch.data());
    kernel.gradient(&one, &c.x, &zero, &one, &one, &zero, false, &dx, nullptr, nullptr, scratch.data());
    EXPECT_TRUE(y == c.y || (std::isnan(y) && std::isnan(c.y))) << y;
    if (std::isfinite(c.x)) {  // otherwise its distance from the mean makes dx NaN
      EXPECT_EQ(dx, c.dx);
    }
  }
}

TEST(SimdBatchNorm, RefusesOtherTypes) { EXPECT_FALSE(find_batch_norm({1, 1, 4, 1, 1}, 0, std::nullopt, DType::f64)); }

}  // namespace
}  // namespace halfstep::simd
