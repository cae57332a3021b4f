#include <optional>

#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/graph/shape.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {
namespace {

TEST(Shape, CountsElements) {
  EXPECT_EQ(Shape().count(), 1);
  EXPECT_EQ((Shape{2, 3, 4}).count(), 24);
  EXPECT_EQ((Shape{2, 0, 4}).count(), 0);
  EXPECT_EQ((Shape{2, 3, 4}).count(1, 3), 12);
  EXPECT_THROW((Shape{2, Shape::kUnknown}).count(), Error);
  EXPECT_THROW((Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}).count(), Error);
}

TEST(Shape, BytesOfATensorAreCountedWithoutOverflow) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 40;
  EXPECT_EQ(bytes_of(DType::f32, Shape{2, 3}), 24u);
  EXPECT_EQ(bytes_of(DType::f64, Shape{}), 8u);
  EXPECT_EQ(bytes_of(DType::u4, Shape{3, 3}), 5u);
  for (const Shape& empty : {Shape{kLarge, 0, kLarge}, Shape{kLarge, kLarge, 0}})
    EXPECT_EQ(known_bytes_of(DType::u8, empty), 0u) << empty.to_string();
  EXPECT_EQ(known_bytes_of(DType::u4, Shape{std::int64_t{1} << 62}), std::size_t{1} << 61);
  for (const Shape& shape : {Shape{kLarge, kLarge}, Shape{std::int64_t{1} << 61}, Shape{-1}, Shape::unranked()}) {
    EXPECT_EQ(known_bytes_of(DType::f32, shape), std::nullopt) << shape.to_string();
    EXPECT_THROW(bytes_of(DType::f32, shape), Error) << shape.to_string();
  }
}

TEST(Shape, KnowsWhatIsKnown) {
  EXPECT_TRUE(Shape().is_static());
  EXPECT_FALSE((Shape{2, Shape::kUnknown}).is_static());
  EXPECT_FALSE(Shape::unranked().is_static());
  EXPECT_NE(Shape::unranked(), Shape());
}

TEST(Shape, PrintsItself) {
  EXPECT_EQ((Shape{32, 784}).to_string(), "[32, 784]");
  EXPECT_EQ((Shape{Shape::kUnknown, 784}).to_string(), "[?, 784]");
  EXPECT_EQ(Shape().to_string(), "[]");
  EXPECT_EQ(Shape::unranked().to_string(), "[...]");
}

TEST(Shape, StridesAreRowMajor) {
  EXPECT_EQ((Shape{2, 3, 4}).strides(), (std::vector<std::int64_t>{12, 4, 1}));
  EXPECT_TRUE(Shape().strides().empty());
}

TEST(Shape, Broadcasts) {
  struct Row {
    Shape a, b;
    std::optional<Shape> result;
  };
  const Row rows[] = {
      {{2, 3}, {3}, Shape{2, 3}},
      {{2, 1, 3}, {4, 1}, Shape{2, 4, 3}},
      {{}, {5}, Shape{5}},
      {{0, 3}, {1}, Shape{0, 3}},
      {{1}, {0}, Shape{0}},
      {{2}, {3}, std::nullopt},
      {{2, 3}, {2, 1, 1}, Shape{2, 2, 3}},
      {{0}, {2}, std::nullopt},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.a.to_string() + " and " + row.b.to_string());
    if (row.result) {
      EXPECT_EQ(broadcast(row.a, row.b), *row.result);
      EXPECT_EQ(broadcast(row.b, row.a), *row.result);
    } else {
      EXPECT_THROW(broadcast(row.a, row.b), Error);
    }
  }
}

TEST(Shape, NormalizesAxes) {
  EXPECT_EQ(normalize_axis(1, 3), 1u);
  EXPECT_EQ(normalize_axis(-1, 3), 2u);
  EXPECT_EQ(normalize_axis(-3, 3), 0u);
  EXPECT_THROW(normalize_axis(3, 3), Error);
  EXPECT_THROW(normalize_axis(-4, 3), Error);
  EXPECT_THROW(normalize_axis(0, 0), Error);
}

}  // namespace
}  // namespace halfstep
