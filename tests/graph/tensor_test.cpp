#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "base/machine_memory.h"
#include "graph/placeholder.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/tensor.h>

namespace halfstep {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

TEST(Tensor, StartsAsAlignedZeros) {
  const Tensor t(DType::f32, {3, 5});
  EXPECT_EQ(t.count(), 15);
  EXPECT_EQ(t.bytes(), 60u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.raw()) % 64, 0u);
  EXPECT_THAT(to_doubles(t), Each(0.0));
}

TEST(Tensor, MayBeEmptyOrUndefined) {
  EXPECT_FALSE(Tensor().is_defined());
  EXPECT_FALSE(Tensor().clone().is_defined());
  const Tensor empty(DType::f16, {0, 4});
  EXPECT_TRUE(empty.is_defined());
  EXPECT_EQ(empty.bytes(), 0u);
  EXPECT_EQ(empty.clone().shape(), (Shape{0, 4}));
}

TEST(Tensor, CopiesShareAndClonesDoNot) {
  Tensor t = Tensor::of<float>({1, 2});
  Tensor copy = t, clone = t.clone();
  t.data<float>()[0] = 7;
  EXPECT_EQ(copy.data<float>()[0], 7);
  EXPECT_EQ(clone.data<float>()[0], 1);
}

TEST(Tensor, RowsAndReshapesShareTheBuffer) {
  Tensor t = Tensor::of<std::int64_t>({0, 1, 2, 3, 4, 5}, {3, 2});
  EXPECT_THAT(to_int64s(t.rows(1, 3)), ElementsAre(2, 3, 4, 5));
  EXPECT_EQ(t.rows(1, 1).count(), 0);
  EXPECT_EQ(t.reshaped({6}).raw(), t.raw());
  EXPECT_THROW(t.reshaped({5}), Error);
}

TEST(Tensor, PacksSmallElements) {
  EXPECT_EQ(Tensor(DType::i4, {5}).bytes(), 3u);
  EXPECT_EQ(Tensor(DType::u2, {5}).bytes(), 2u);
}

TEST(Tensor, RefusesImpossibleSizes) {
  EXPECT_THROW(Tensor(DType::f32, {std::int64_t{1} << 62, 2}), Error);
  EXPECT_THROW(Tensor(DType::f32, {Shape::kUnknown}), Error);
  const auto memory = static_cast<std::int64_t>(machine_memory());
  EXPECT_THROW(Tensor(DType::u8, {memory + 1}), Error);
  EXPECT_THROW(Tensor(DType::string, {memory}), Error);
}

TEST(Convert, SaturatesAndTruncatesTowardsZero) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor t = Tensor::of<float>({-1.9f, 1.9f, 300, -inf, NAN});
  EXPECT_THAT(to_int64s(convert(t, DType::i8)), ElementsAre(-1, 1, 127, -128, 0));
  EXPECT_THAT(to_int64s(convert(t, DType::u8)), ElementsAre(0, 1, 255, 0, 0));
}

TEST(Convert, ToBoolIsUnequalZero) {
  EXPECT_THAT(to_int64s(convert(Tensor::of<float>({0, -0.0f, 0.5f, NAN}), DType::boolean)), ElementsAre(0, 0, 1, 1));
}

TEST(Convert, RoundsToHalfTypes) {
  const Tensor t = Tensor::of<float>({1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 1e6f});
  EXPECT_THAT(to_doubles(convert(t, DType::f16)), ElementsAre(1, 1 + 0x1p-9, HUGE_VAL));
  EXPECT_THAT(to_doubles(convert(Tensor::of<float>({1 + 0x1p-8f, 1 + 3 * 0x1p-8f}), DType::bf16)),
              ElementsAre(1, 1 + 0x1p-6));
}

TEST(Convert, RoundsDoublesToHalfTypesOnce) {
  // Just above and just below the middle of two neighbours; a float in between would make each a tie.
  const Tensor f16_ties = Tensor::of<double>({1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-11 - 0x1p-40, -(1 + 0x1p-11 + 0x1p-40)});
  EXPECT_EQ(to_doubles(convert(f16_ties, DType::f16)), (std::vector<double>{1 + 0x1p-10, 1, -(1 + 0x1p-10)}));
  const Tensor bf16_ties = Tensor::of<double>({1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8 - 0x1p-40});
  EXPECT_EQ(to_doubles(convert(bf16_ties, DType::bf16)), (std::vector<double>{1 + 0x1p-7, 1}));
}

TEST(Convert, RefusesStrings) { EXPECT_THROW(convert(Tensor(DType::string, {1}), DType::f32), Error); }

TEST(Identical, ComparesTypeShapeAndBytes) {
  const Tensor a = Tensor::of<float>({0, 1});
  EXPECT_TRUE(identical(a, a.clone()));
  EXPECT_FALSE(identical(a, Tensor::of<float>({-0.0f, 1})));
  EXPECT_FALSE(identical(a, a.reshaped({2, 1})));
  EXPECT_FALSE(identical(a, convert(a, DType::f64)));
}

TEST(DTypes, AreFoundByBothNames) {
  EXPECT_EQ(dtype_from_name("bf16"), DType::bf16);
  EXPECT_EQ(dtype_from_name("bfloat16"), DType::bf16);
  EXPECT_EQ(dtype_from_name("float"), DType::f32);
  EXPECT_EQ(dtype_from_name("half"), DType::undefined);
}

TEST(Tensor, ElementsOfAnySizeAreZeroAndCanBeWritten) {
  constexpr std::int64_t kMega = 1 << 20;
  for (const std::int64_t bytes :
       {std::int64_t{1}, kMega - 1, kMega, 2 * kMega - 1, 2 * kMega, 2 * kMega + 1, 5 * kMega + 4097}) {
    for (int again = 0; again < 3; ++again) {
      Tensor tensor(DType::u8, Shape{bytes});
      const std::span<std::uint8_t> all = tensor.span<std::uint8_t>();
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(all.data()) % 64, 0u);
      EXPECT_EQ(std::ranges::count(all, 0), bytes) << bytes;
      std::ranges::fill(all, std::uint8_t{1});
    }
  }
}

TEST(Placeholder, HasTypeAndShapeAndZerosInPlaceOfElements) {
  for (const std::int64_t side : {1, 31, 32, 500, 512, 700}) {
    Tensor tensor(DType::f32, Shape{side, side});
    std::ranges::fill(tensor.span<float>(), 1.0f);
    const Tensor stands = placeholder_of(tensor);
    EXPECT_EQ(stands.dtype(), DType::f32);
    EXPECT_EQ(stands.shape(), tensor.shape());
    const bool is_small = side < 32;
    EXPECT_EQ(stands.raw() == tensor.raw(), is_small);
    const Tensor copy = stands.clone();
    EXPECT_EQ(std::ranges::count(copy.span<float>(), 0.0f), is_small ? 0 : side * side);
    EXPECT_TRUE(identical(zeros_of(DType::f32, tensor.shape()), Tensor(DType::f32, tensor.shape())));
  }
  EXPECT_FALSE(placeholder_of(Tensor()).is_defined());
}

// A user may put initial values of optimizer states into a graph.
TEST(Placeholder, ZerosMayBeWritten) {
  for (const std::int64_t side : {1, 32, 64, 511, 512, 700}) {
    Tensor written = zeros_of(DType::f32, Shape{side, side});
    const Tensor other = zeros_of(DType::f32, Shape{side, side});
    std::ranges::fill(written.span<float>(), 1.0f);
    EXPECT_EQ(std::ranges::count(written.span<float>(), 1.0f), side * side);
    EXPECT_EQ(std::ranges::count(other.span<float>(), 0.0f), side * side);
  }
}

}  // namespace
}  // namespace halfstep
