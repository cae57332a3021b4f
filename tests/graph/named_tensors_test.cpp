// Tensors in another type, where nothing is lost that a user would miss.
#include <cmath>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/graph/named_tensors.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AsType, RoundsFloatsAndKeepsIntegers) {
  const Tensor f64 = Tensor::of<double>({0.1, -2, std::numeric_limits<double>::infinity()});
  EXPECT_THAT(to_doubles(as_type(f64, DType::f32, "x")),
              ElementsAre(0.1f, -2, std::numeric_limits<double>::infinity()));
  EXPECT_THAT(to_int64s(as_type(Tensor::of<std::int32_t>({-1, 7}), DType::i64, "x")), ElementsAre(-1, 7));
  EXPECT_THAT(to_int64s(as_type(Tensor::of<std::int64_t>({0, 255}), DType::u8, "x")), ElementsAre(0, 255));
  EXPECT_EQ(to_int64s(as_type(Tensor::scalar(true), DType::i64, "x"))[0], 1);
  const Tensor same = Tensor::scalar(1.0f);
  EXPECT_EQ(as_type(same, DType::f32, "x").raw(), same.raw()) << "no copy";
}

TEST(AsType, RefusesWhatWouldChangeAValue) {
  const struct {
    Tensor given;
    DType wanted;
    const char* says;
  } cases[] = {
      {Tensor::of<std::int64_t>({1, -1}), DType::u8, "at element 1"},
      {Tensor::of<std::int64_t>({256}), DType::u8, "at element 0"},
      {Tensor::of<std::int64_t>({1LL << 40}), DType::i32, "'x' as i32"},
      {Tensor::of<std::uint64_t>({~0ULL}), DType::i64, "at element 0"},
      {Tensor::scalar(1.0f), DType::i64, "'x' as i64, got f32"},
      {Tensor::scalar(std::int64_t{1}), DType::f32, "'x' as f32, got i64"},
      {Tensor::scalar(std::int64_t{1}), DType::boolean, "'x' as bool"},
      {Tensor(DType::string, {1}), DType::f32, "got string"},
  };
  for (const auto& c : cases) {
    try {
      as_type(c.given, c.wanted, "x");
      ADD_FAILURE() << c.says;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.says));
    }
  }
}

}  // namespace
}  // namespace halfstep
