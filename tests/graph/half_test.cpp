// f16 and bf16 against their definitions, pattern by pattern.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include <halfstep/base/half.h>

namespace halfstep {
namespace {

// IEEE 754 binary16 by its definition.
double f16_value(std::uint32_t bits) {
  const double sign = bits & 0x8000u ? -1 : 1;
  const int exponent = static_cast<int>((bits >> 10) & 0x1fu);
  const double fraction = (bits & 0x3ffu) / 1024.0;
  if (exponent == 31) return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  return exponent == 0 ? sign * std::ldexp(fraction, -14) : sign * std::ldexp(1 + fraction, exponent - 15);
}

TEST(F16, EveryPatternHasItsValueAndComesBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto value = static_cast<float>(f16::from_bits(static_cast<std::uint16_t>(bits)));
    const double expected = f16_value(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(f16(value)))) << bits;
      continue;
    }
    ASSERT_EQ(value, expected) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000u) != 0) << bits;
    ASSERT_EQ(f16(value).bits, bits);
  }
}

TEST(F16, RoundsToNearestTiesToEvenBetweenAllNeighbours) {
  for (std::uint32_t bits = 0; bits < 0x7bffu; ++bits) {
    const double below = f16_value(bits), above = f16_value(bits + 1);
    const auto middle = static_cast<float>((below + above) / 2);  // exact: one bit more than f16 has
    ASSERT_EQ(f16(middle).bits, bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(f16(std::nextafter(middle, 0.0f)).bits, bits) << bits;
    ASSERT_EQ(f16(std::nextafter(middle, 1e6f)).bits, bits + 1) << bits;
    ASSERT_EQ(f16(-middle).bits, f16(middle).bits | 0x8000u) << bits;
  }
}

TEST(F16, OverflowsToInfinity) {
  EXPECT_EQ(f16(65504.0f).bits, 0x7bffu);
  EXPECT_EQ(f16(std::nextafter(65520.0f, 0.0f)).bits, 0x7bffu);
  EXPECT_EQ(f16(65520.0f).bits, 0x7c00u);
  EXPECT_EQ(f16(-std::numeric_limits<float>::max()).bits, 0xfc00u);
  EXPECT_EQ(f16(std::numeric_limits<float>::denorm_min()).bits, 0u);
}

TEST(BF16, EveryPatternComesBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto value = static_cast<float>(bf16::from_bits(static_cast<std::uint16_t>(bits)));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), bits << 16);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(static_cast<float>(bf16(value)))) << bits;
    } else {
      ASSERT_EQ(bf16(value).bits, bits);
    }
  }
}

TEST(BF16, RoundsToNearestTiesToEvenBetweenAllNeighbours) {
  for (std::uint32_t bits = 0; bits < 0x7f80u; ++bits) {
    const auto middle = std::bit_cast<float>((bits << 16) | 0x8000u);
    ASSERT_EQ(bf16(middle).bits, bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(bf16(std::bit_cast<float>((bits << 16) | 0x7fffu)).bits, bits) << bits;
    ASSERT_EQ(bf16(std::bit_cast<float>((bits << 16) | 0x8001u)).bits, bits + 1) << bits;
  }
}

TEST(BF16, KeepsANanWhosePayloadIsCutOff) {
  EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace halfstep
