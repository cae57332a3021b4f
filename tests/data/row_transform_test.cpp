#include <cmath>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>

#include "tests/data/temporary_folder.h"
#include <halfstep/data/row_transform.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

/// Rows 10, 11, … of a file called "x", which are all that the tensor holds.
Tensor applied(const RowTransform& transform, const Tensor& tensor) {
  const std::int64_t rows = tensor.shape()[0];
  std::vector<std::int64_t> dims{rows}, numbers(static_cast<std::size_t>(rows));
  std::iota(numbers.begin(), numbers.end(), 10);
  dims.insert(dims.end(), transform.to.shape.begin(), transform.to.shape.end());
  Tensor out(transform.to.dtype, Shape(dims));
  transform.apply(tensor.raw(), numbers, out.raw());
  return out;
}
Tensor as_input(const Tensor& tensor, const RowType& wanted, const InputOptions& options = {}) {
  return applied(fit_input(DataArray::of(tensor, "x"), wanted, options), tensor);
}
Tensor as_target(const Tensor& tensor, const RowType& wanted, const TargetOptions& options = {}) {
  return applied(fit_target(DataArray::of(tensor, "x"), wanted, options), tensor);
}

TEST(FitInput, ScalesBytesForFloatInputs) {
  const Tensor bytes = Tensor::of<std::uint8_t>({0, 51, 255}, Shape{1, 3});
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
    const auto values = to_doubles(as_input(bytes, {dtype, Shape{3}}));
    EXPECT_EQ(values[0], 0);
    EXPECT_NEAR(values[1], 0.2, 1e-3);
    EXPECT_EQ(values[2], 1) << name_of(dtype);
  }
  EXPECT_THAT(to_doubles(as_input(bytes, {DType::f32, Shape{3}}, {.scale = 1})), ElementsAre(0, 51, 255));
  EXPECT_THAT(to_doubles(as_input(bytes, {DType::f32, Shape{3}}, {.scale = 2, .mean = {2}, .stddev = {4}})),
              ElementsAre(-0.5, 25, 127));
  EXPECT_THAT(to_int64s(as_input(bytes, {DType::u8, Shape{3}})), ElementsAre(0, 51, 255));
  EXPECT_THAT(to_int64s(as_input(bytes, {DType::i64, Shape{3}})), ElementsAre(0, 51, 255));
}

TEST(FitInput, ConvertsBetweenAllTypes) {
  const DType types[] = {DType::f16, DType::f32, DType::f64, DType::i8,  DType::i16, DType::i32,
                         DType::i64, DType::u8,  DType::u16, DType::u32, DType::u64};
  for (const DType from : types)
    for (const DType to : types) {
      const Tensor tensor = convert(Tensor::of<float>({0, 1, 100, 127}, Shape{2, 2}), from);
      const InputOptions options{.scale = is_float(to) ? std::optional(1.0) : std::nullopt};
      EXPECT_TRUE(identical(as_input(tensor, {to, Shape{2}}, options), convert(tensor, to)))
          << name_of(from) << " " << name_of(to);
    }
}

TEST(FitInput, NormalizesPerChannel) {
  const Tensor pixels = Tensor::of<float>({1, 2, 3, 4, 5, 6}, Shape{1, 3, 2});
  const InputOptions by_three{.mean = {1, 2, 3}, .stddev = {1, 2, 4}};
  EXPECT_THAT(to_doubles(as_input(pixels, {DType::f32, Shape{3, 2}}, by_three)), ElementsAre(0, 1, 0.5, 1, 0.5, 0.75));
  const InputOptions by_two{.mean = {1, 2}};
  EXPECT_THAT(to_doubles(as_input(pixels, {DType::f32, Shape{3, 2}}, by_two)), ElementsAre(0, 0, 2, 2, 4, 4));
  // [1, 3, 2] channel last to [2, 1, 3] channel first, normalised by channel.
  const Tensor image = pixels.reshaped(Shape{1, 1, 3, 2});
  EXPECT_THAT(to_doubles(as_input(image, {DType::f32, Shape{2, 1, 3}}, by_two)), ElementsAre(0, 2, 4, 0, 2, 4));
  for (const InputOptions& wrong :
       {InputOptions{.mean = {1, 2, 3, 4, 5}}, InputOptions{.mean = {1, 2}, .stddev = {1, 2, 3}},
        InputOptions{.stddev = {0}}, InputOptions{.stddev = {std::numeric_limits<double>::infinity()}},
        InputOptions{.scale = std::nan("")}})
    EXPECT_THROW(fit_input(DataArray::of(pixels, "x"), {DType::f32, Shape{3, 2}}, wrong), Error);
  EXPECT_THROW(fit_input(DataArray::of(pixels, "x"), {DType::i32, Shape{3, 2}}, {.scale = 2}), Error);
}

TEST(FitInput, ShapesThatFit) {
  constexpr auto kAny = Shape::kUnknown;
  const struct {
    Shape found, wanted, result;
  } cases[] = {
      {{28, 28}, {28, 28}, {28, 28}},
      {{28, 28}, {784}, {784}},
      {{28, 28}, {1, 28, 28}, {1, 28, 28}},
      {{28, 28}, {28, 28, 1}, {28, 28, 1}},
      {{784}, {1, 28, 28}, {1, 28, 28}},
      {{784}, {784}, {784}},
      {{28, 28, 1}, {1, 28, 28}, {1, 28, 28}},
      {{1, 28, 28}, {28, 28}, {28, 28}},
      {{}, {1}, {1}},
      {{1}, {}, {}},
      {{32, 32, 3}, {3, 32, 32}, {3, 32, 32}},
      {{32, 32, 3}, {3, kAny, kAny}, {3, 32, 32}},
      {{32, 16, 3}, {kAny, kAny, kAny}, {32, 16, 3}},
      {{28, 28}, {1, kAny, kAny}, {1, 28, 28}},
      {{28, 28}, {kAny, kAny, 1}, {28, 28, 1}},
      {{28, 28}, {kAny}, {784}},
      {{17}, {kAny}, {17}},
      {{17, 3}, Shape::unranked(), {17, 3}},
  };
  for (const auto& c : cases) {
    const Tensor tensor(DType::f32, [&] {
      std::vector<std::int64_t> dims{1};
      dims.insert(dims.end(), c.found.begin(), c.found.end());
      return Shape(dims);
    }());
    EXPECT_EQ(fit_input(DataArray::of(tensor, "x"), {DType::f32, c.wanted}).to.shape, c.result)
        << c.found.to_string() << " to " << c.wanted.to_string();
  }
}

TEST(FitInput, ShapesThatDoNotFitAreNamed) {
  const struct {
    Shape found, wanted;
    LayoutChange layout = LayoutChange::automatic;
  } cases[] = {
      {{28, 28}, {785}},
      {{28, 28}, {14, 56}},
      {{28, 28}, {3, 28, 28}},
      {{32, 16, 3}, {3, 16, 32}},
      {{3, 32, 32}, {3, 16, Shape::kUnknown}},
      {{32, 32, 3}, {3, 32, 32}, LayoutChange::none},
      {{28, 28}, {28, 28}, LayoutChange::nhwc_to_nchw},
  };
  for (const auto& c : cases) {
    std::vector<std::int64_t> dims{1};
    dims.insert(dims.end(), c.found.begin(), c.found.end());
    const DataArray array = DataArray::of(Tensor(DType::u8, Shape(dims)), "images.npy");
    const std::string error = error_of([&] { fit_input(array, {DType::f32, c.wanted}, {.layout = c.layout}); });
    EXPECT_THAT(error, HasSubstr("images.npy has rows of u8 " + c.found.to_string()));
    EXPECT_THAT(error, HasSubstr("f32 " + c.wanted.to_string()));
  }
}

TEST(FitInput, MovesTheChannelAxis) {
  const Tensor hwc = Tensor::of<std::int32_t>({0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121}, Shape{2, 1, 3, 2});
  const Tensor chw = Tensor::of<std::int32_t>({0, 10, 20, 1, 11, 21, 100, 110, 120, 101, 111, 121}, Shape{2, 2, 1, 3});
  EXPECT_TRUE(identical(as_input(hwc, {DType::i32, Shape{2, 1, 3}}), chw));
  EXPECT_TRUE(identical(as_input(chw, {DType::i32, Shape{1, 3, 2}}), hwc));
  EXPECT_TRUE(identical(as_input(chw, {DType::f64, Shape{1, 3, 2}}), convert(hwc, DType::f64)));
  // A cube looks the same both ways: it moves only when told to.
  const Tensor cube = Tensor::of<float>({0, 1, 2, 3, 4, 5, 6, 7}, Shape{1, 2, 2, 2});
  const RowType wanted{DType::f32, Shape{2, 2, 2}};
  EXPECT_TRUE(identical(as_input(cube, wanted), cube));
  EXPECT_THAT(to_doubles(as_input(cube, wanted, {.layout = LayoutChange::nhwc_to_nchw})),
              ElementsAre(0, 2, 4, 6, 1, 3, 5, 7));
  EXPECT_THAT(to_doubles(as_input(cube, wanted, {.layout = LayoutChange::nchw_to_nhwc})),
              ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
}

TEST(FitInput, IsACopyOnlyWhenNothingChanges) {
  const DataArray floats = DataArray::of(Tensor(DType::f32, Shape{1, 4, 4, 2}), "x");
  EXPECT_TRUE(fit_input(floats, {DType::f32, Shape{4, 4, 2}}).is_copy);
  EXPECT_TRUE(fit_input(floats, {DType::f32, Shape{32}}).is_copy);
  EXPECT_FALSE(fit_input(floats, {DType::f32, Shape{2, 4, 4}}).is_copy);
  EXPECT_FALSE(fit_input(floats, {DType::f64, Shape{4, 4, 2}}).is_copy);
  EXPECT_FALSE(fit_input(floats, {DType::f32, Shape{4, 4, 2}}, {.scale = 2}).is_copy);
}

TEST(FitInput, ValuesThatDoNotFitTheTypeNameTheirRow) {
  const auto error = [](const Tensor& tensor, DType to, InputOptions options = {}) {
    return error_of([&] { as_input(tensor, {to, Shape{2}}, options); });
  };
  const Shape shape{2, 2};
  EXPECT_THAT(error(Tensor::of<float>({1, 2, 3, 4.5}, shape), DType::i64), HasSubstr("4.5 in row 11 of x"));
  EXPECT_THAT(error(Tensor::of<double>({1, 9.3e18, 3, 4}, shape), DType::i64), HasSubstr("row 10 of x"));
  EXPECT_THAT(error(Tensor::of<std::int64_t>({1, 2, 300, 4}, shape), DType::u8), HasSubstr("300 in row 11 of x"));
  EXPECT_THAT(error(Tensor::of<std::int8_t>({1, -2, 3, 4}, shape), DType::u64), HasSubstr("-2 in row 10 of x"));
  EXPECT_THAT(error(Tensor::of<double>({1, 2, 3, 1e300}, shape), DType::f32),
              HasSubstr("row 11 of x has NaN or infinity"));
  EXPECT_THAT(error(Tensor::of<float>({1, 2, 70000, 4}, shape), DType::f16), HasSubstr("overflows f16"));
  EXPECT_THAT(error(Tensor::of<float>({1, 2, 3, 4}, shape), DType::f32, {.scale = 1e38}), HasSubstr("row 11 of x"));
}

// Numbers are scaled in f32, where neither is f64.
TEST(FitInput, ScalesThatAreNotFiniteWhereTheyAreAppliedAreRefused) {
  const Tensor bytes = Tensor::of<std::uint8_t>({0, 255}, Shape{1, 2});
  const InputOptions cases[] = {
      {.stddev = {1e-41}}, {.scale = 1e39}, {.mean = {1e39}}, {.mean = {1e30}, .stddev = {1e-9}}};
  for (const InputOptions& options : cases) {
    EXPECT_THAT(error_of([&] { as_input(bytes, {DType::f32, Shape{2}}, options); }), HasSubstr("a finite scale"));
    EXPECT_NO_THROW(as_input(bytes, {DType::f64, Shape{2}}, options));
  }
  const Tensor large = Tensor::of<std::int64_t>({1, std::int64_t{1} << 62}, Shape{2, 1});
  EXPECT_THAT(error_of([&] {
                as_input(large, {DType::f32, Shape{1}}, {.scale = 1e30});
              }),
              HasSubstr("row 11 of x has NaN or infinity"));
  EXPECT_NO_THROW(as_input(large, {DType::f32, Shape{1}}, {.scale = 1e15}));
}

TEST(FitTarget, TakesClassIndicesOfAnyTypeAndShape) {
  for (const DType from : {DType::u8, DType::i32, DType::i64, DType::f32})
    for (const Shape& found : {Shape{3}, Shape{3, 1}})
      for (const Shape& wanted : {Shape{}, Shape{1}}) {
        const Tensor labels = convert(Tensor::of<std::int64_t>({3, 0, 9}, found), from);
        EXPECT_THAT(to_int64s(as_target(labels, {DType::i64, wanted}, {.classes = 10})), ElementsAre(3, 0, 9));
      }
  const Tensor tokens = Tensor::of<std::int32_t>({1, 2, -100, 4}, Shape{2, 2});
  EXPECT_THAT(to_int64s(as_target(tokens, {DType::i64, Shape{2}}, {.classes = 5, .ignore_index = -100})),
              ElementsAre(1, 2, -100, 4));
}

TEST(FitTarget, LabelsOutOfRangeNameTheirRow) {
  const auto error = [](std::int64_t label, TargetOptions options) {
    return error_of([&] { as_target(Tensor::of<std::int64_t>({0, label}), {DType::i64, Shape{}}, options); });
  };
  EXPECT_THAT(error(10, {.classes = 10}), HasSubstr("class indices in [0, 10), got 10 in row 11 of x"));
  EXPECT_THAT(error(-1, {.classes = 10}), HasSubstr("-1 in row 11 of x"));
  EXPECT_THAT(error(-1, {.classes = 10, .ignore_index = -100}), HasSubstr("-1 in row 11 of x"));
  EXPECT_THAT(error_of([] {
                as_target(Tensor::of<float>({0, 0.5f}), {DType::i64, Shape{}});
              }),
              HasSubstr("0.5 in row 11"));
}

TEST(FitTarget, MakesOneHotRows) {
  const Tensor labels = Tensor::of<std::uint8_t>({2, 0});
  for (const DType to : {DType::f32, DType::f16, DType::f64})
    EXPECT_THAT(to_doubles(as_target(labels, {to, Shape{3}})), ElementsAre(0, 0, 1, 1, 0, 0));
  const Tensor sequences = Tensor::of<std::int64_t>({1, 0, 0, 1}, Shape{2, 2});
  EXPECT_THAT(to_doubles(as_target(sequences, {DType::f32, Shape{2}})), ElementsAre(1, 0, 0, 1));  // same shape: values
  EXPECT_THAT(to_doubles(as_target(sequences, {DType::f32, Shape{2, 3}})),
              ElementsAre(0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0));
  EXPECT_THAT(error_of([&] { as_target(labels, {DType::f32, Shape{2}}); }), HasSubstr("2 in row 10 of x"));
}

TEST(FitTarget, TakesValuesUnscaled) {
  EXPECT_THAT(to_doubles(as_target(Tensor::of<double>({0.5, -3}), {DType::f32, Shape{1}})), ElementsAre(0.5, -3));
  EXPECT_THAT(to_doubles(as_target(Tensor::of<std::uint8_t>({200, 3}), {DType::f32, Shape{}})), ElementsAre(200, 3));
  const DataArray array = DataArray::of(Tensor(DType::f32, Shape{1, 5}), "y.npy");
  EXPECT_THAT(error_of([&] { fit_target(array, {DType::f32, Shape{4}}); }), HasSubstr("y.npy has rows of f32 [5]"));
  EXPECT_THAT(error_of([&] { fit_target(array, {DType::i64, Shape{}}); }), HasSubstr("i64 []"));
}

}  // namespace
}  // namespace halfstep
