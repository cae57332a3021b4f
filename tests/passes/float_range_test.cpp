// Ranges of tensors, and what of them is the same once they are rounded.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include <halfstep/base/half.h>
#include <halfstep/passes/precision/float_range.h>

namespace halfstep {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

FloatRange range_of(const std::vector<float>& elements, DType rounded_to = DType::f32) {
  FloatRange range;
  range.add(elements.data(), elements.size(), rounded_to);
  return range;
}

float rounded(float x, DType half) {
  return half == DType::f16 ? static_cast<float>(f16(x)) : static_cast<float>(bf16(x));
}

TEST(FloatRange, CountsAndExtremes) {
  std::vector<float> elements(20'000, 0.5f);
  elements[3] = -3;
  elements[17'000] = 1e-40f;
  elements[18'000] = -0.0f;
  elements[19'000] = -kInfinity;
  elements[19'001] = std::nanf("");
  const FloatRange range = range_of(elements);
  EXPECT_EQ(range.count(), 20'000u);
  EXPECT_EQ(range.finite(), 19'998u);
  EXPECT_EQ(range.infinities, 1u);
  EXPECT_EQ(range.nans, 1u);
  EXPECT_EQ(range.zeros, 1u);
  EXPECT_EQ(range.max, 3);
  EXPECT_EQ(range.min_non_zero, 1e-40f);
  EXPECT_EQ(range.squares, 9 + 19'995 * 0.25);
  EXPECT_EQ(range.below_normal(DType::f16), 1u);
  EXPECT_EQ(range_of({0, -0.0f}).min_non_zero, 0);
}

class RoundedSquares : public ::testing::TestWithParam<DType> {};

// Every exponent that f16 has or flushes, halfway cases included.
TEST_P(RoundedSquares, AreThoseOfRoundedElements) {
  std::mt19937 random(1);
  std::uniform_int_distribution<std::uint32_t> fraction(0, 0x7fffff);
  for (int exponent = -30; exponent < 16; ++exponent)
    for (int i = 0; i < 100; ++i) {
      const std::uint32_t bits = i % 4 == 0 ? fraction(random) & 0x7ff000u : i % 4 == 1 ? 0x7fffffu : fraction(random);
      const float x = std::ldexp(static_cast<float>(0x800000u + bits), exponent - 23) * (i % 2 ? -1.0f : 1.0f);
      const double expected = rounded(x, GetParam());
      if (std::isinf(expected)) continue;
      EXPECT_EQ(range_of({x}, GetParam()).rounded_squares, expected * expected) << x;
    }
}

TEST_P(RoundedSquares, AreTheSameOnceRoundedAndInParts) {
  std::mt19937 random(1);
  std::normal_distribution<float> draw(0, 1e-3f);
  std::vector<float> elements(3 * FloatRange::kBlock + 5), half;
  for (float& x : elements) x = draw(random);
  for (float x : elements) half.push_back(rounded(x, GetParam()));
  const double expected = range_of(elements, GetParam()).rounded_squares;
  EXPECT_EQ(range_of(half, GetParam()).rounded_squares, expected);
  EXPECT_EQ(range_of(half).squares, expected);
  EXPECT_NE(range_of(elements).squares, expected);
  FloatRange parts;
  parts.add(elements.data(), 2 * FloatRange::kBlock, GetParam());
  parts.add(elements.data() + 2 * FloatRange::kBlock, elements.size() - 2 * FloatRange::kBlock, GetParam());
  EXPECT_EQ(parts.rounded_squares, expected);
}

INSTANTIATE_TEST_SUITE_P(Halves, RoundedSquares, ::testing::Values(DType::f16, DType::bf16),
                         [](const auto& half) { return std::string(name_of(half.param)); });

}  // namespace
}  // namespace halfstep
