#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/row_named.h"
#include "data/label_checks.h"
#include "data/row_conversion.h"
#include "data/row_shape.h"
#include <halfstep/base/error.h>
#include <halfstep/data/row_transform.h>

namespace halfstep {
namespace {

struct LayoutName {
  std::string_view name;
  LayoutChange layout;
};
constexpr LayoutName kLayouts[] = {
    {"auto", LayoutChange::automatic},
    {"keep", LayoutChange::none},
    {"nhwc-to-nchw", LayoutChange::nhwc_to_nchw},
    {"nchw-to-nhwc", LayoutChange::nchw_to_nhwc},
};

RowGeometry flat(std::size_t count) { return {.extent = count}; }

RowGeometry planes(std::size_t count, std::size_t channels, bool in_last, bool out_last) {
  const std::size_t extent = channels ? count / channels : 0;
  RowGeometry g{.channels = channels, .extent = extent};
  g.in_channel_step = in_last ? 1 : extent;
  g.in_step = in_last ? channels : 1;
  g.out_channel_step = out_last ? 1 : extent;
  g.out_step = out_last ? channels : 1;
  return g;
}

RowTransform make_transform(const std::string& name, const RowType& from, const RowType& to, const RowGeometry& g,
                            const RowScale& affine) {
  RowTransform result{.from = from, .to = to, .is_copy = false, .apply = {}};
  result.is_copy = from.dtype == to.dtype && affine.is_identity() && g.in_step == g.out_step;
  if (result.is_copy) {
    const std::size_t row_bytes = bytes_of(from.dtype, static_cast<std::size_t>(from.shape.count()));
    result.apply = [row_bytes](const void* in, RowNumbers rows, void* out) {
      std::memcpy(out, in, rows.size() * row_bytes);
    };
  } else {
    result.apply = applying(conversion_of(from.dtype, to.dtype), {name, to, g, affine});
  }
  return result;
}

[[noreturn]] void throw_no_fit(const DataArray& array, const RowType& wanted) {
  throw_input_error(fmt::format("rows that fit the model's {}", wanted.to_string()),
                    fmt::format("{} has rows of {}", array.name(), array.row_type().to_string()),
                    "reshape the data, or use the data the model was made for");
}

RowScale affine_of(const RowType& from, const RowType& to, const InputOptions& options) {
  if (!is_float(to.dtype)) {
    if (options.scale || !options.mean.empty() || !options.stddev.empty())
      throw_input_error("a float input to scale", "one of " + to.to_string(), "leave scale, mean and stddev out");
    return {};
  }
  const double scale = options.scale.value_or(from.dtype == DType::u8 ? 1.0 / 255.0 : 1.0);
  const std::size_t channels = std::max({options.mean.size(), options.stddev.size(), std::size_t{1}});
  const auto value_of = [&](const std::vector<double>& values, std::size_t c, double otherwise) {
    if (values.empty()) return otherwise;
    if (values.size() != 1 && values.size() != channels)
      throw_input_error("as many means as standard deviations",
                        fmt::format("{} and {}", options.mean.size(), options.stddev.size()),
                        "give one, or one per channel");
    return values[values.size() == 1 ? 0 : c];
  };
  const bool in_double = from.dtype == DType::f64 || to.dtype == DType::f64;
  const auto is_finite = [&](double x) { return in_double ? std::isfinite(x) : std::isfinite(static_cast<float>(x)); };
  RowScale affine{std::vector<double>(channels), std::vector<double>(channels)};
  for (std::size_t c = 0; c < channels; ++c) {
    const double mean = value_of(options.mean, c, 0), stddev = value_of(options.stddev, c, 1);
    affine.multiplier[c] = scale / stddev;
    affine.offset[c] = 0.0 - mean / stddev;  // not -mean: that makes 0 a -0
    // The quotients of an infinite deviation are finite: they make every input 0.
    if (!is_finite(affine.multiplier[c]) || !is_finite(affine.offset[c]) || !std::isfinite(stddev))
      throw_input_error("a finite scale, mean and standard deviation (other than 0), in the type of the input",
                        fmt::format("{}, {}, {}", scale, mean, stddev), "correct them");
  }
  return affine;
}

/// Whether the channel axis of rows of this shape, of length `channels`, is the last one; otherwise it is the first.
bool channels_are_last(const Shape& shape, std::size_t channels) {
  const auto n = static_cast<std::int64_t>(channels);
  const bool first = shape.rank() > 0 && shape[0] == n;
  const bool last = shape.rank() > 0 && shape.dim(-1) == n;
  if (!first && !last)
    throw_input_error(fmt::format("an input with as many channels as means: {}", n), "rows of " + shape.to_string(),
                      "give one mean and standard deviation, or one per channel");
  return !first;
}

RowGeometry geometry_of(const RowShapeFit& fit, const Shape& from, const RowScale& affine) {
  const auto count = static_cast<std::size_t>(fit.shape.count());
  const std::size_t channels = affine.channels();
  if (fit.change == LayoutChange::none) {
    if (channels == 1) return flat(count);
    const bool last = channels_are_last(fit.shape, channels);
    return planes(count, channels, last, last);
  }
  const bool from_last = fit.change == LayoutChange::nhwc_to_nchw;
  const auto found = static_cast<std::size_t>(from_last ? from.dim(-1) : from[0]);
  if (channels != 1 && channels != found)
    throw_input_error(fmt::format("one mean, or one for each of {} channels", found), std::to_string(channels),
                      "give one mean and standard deviation, or one per channel");
  return planes(count, found, from_last, !from_last);
}

std::optional<RowTransform> fit_one_hot(const DataArray& y, const RowType& wanted) {
  const RowType& from = y.row_type();
  if (is_float(from.dtype) || !wanted.shape.is_ranked() || wanted.shape.rank() == 0) return std::nullopt;
  const std::int64_t classes = wanted.shape.dim(-1);
  if (classes < 2) return std::nullopt;
  std::vector<std::int64_t> dims = wanted.shape.dims();
  dims.pop_back();
  const auto indices = fit_row_shape(from.shape, Shape(dims), LayoutChange::none);
  if (!indices) return std::nullopt;
  dims = indices->shape.dims();
  dims.push_back(classes);
  const RowType to{wanted.dtype, Shape(dims)};
  return RowTransform{.from = from,
                      .to = to,
                      .is_copy = false,
                      .apply = applying(one_hot_conversion(from.dtype, to.dtype), {.name = y.name(), .to = to})};
}

}  // namespace

std::string_view name_of(LayoutChange layout) { return std::ranges::find(kLayouts, layout, &LayoutName::layout)->name; }

LayoutChange parse_layout(std::string_view name) {
  return row_named(kLayouts, name, "a layout: ", "check --layout").layout;
}

RowTransform fit_input(const DataArray& x, const RowType& wanted, const InputOptions& options) {
  const RowType& from = x.row_type();
  const auto fit = fit_row_shape(from.shape, wanted.shape, options.layout);
  if (!fit) throw_no_fit(x, wanted);
  const RowScale affine = affine_of(from, wanted, options);
  return make_transform(x.name(), from, {wanted.dtype, fit->shape}, geometry_of(*fit, from.shape, affine), affine);
}

RowTransform fit_target(const DataArray& y, const RowType& wanted, const TargetOptions& options) {
  const RowType& from = y.row_type();
  const auto fit = fit_row_shape(from.shape, wanted.shape, LayoutChange::none);
  if (!fit) {
    if (is_float(wanted.dtype))
      if (auto transform = fit_one_hot(y, wanted)) return *std::move(transform);
    throw_no_fit(y, wanted);
  }
  const auto count = static_cast<std::size_t>(fit->shape.count());
  RowTransform result = make_transform(y.name(), from, {wanted.dtype, fit->shape}, flat(count), RowScale{});
  if (options.classes && is_integer(wanted.dtype)) {
    result.is_copy = false;
    result.apply = with_range_check(std::move(result.apply), y.name(), {wanted.dtype, fit->shape}, options);
  }
  if (options.probabilities && wanted.dtype == DType::f32) {
    result.is_copy = false;
    result.apply = with_probability_check(std::move(result.apply), y.name(), count, options.ignore_index);
  }
  return result;
}

RowTransform fit_weights(const DataArray& weights, const Shape& labels) {
  const RowType& from = weights.row_type();
  const bool per_row = from.shape.count() == 1;
  const auto fit = fit_row_shape(from.shape, per_row ? Shape{} : labels, LayoutChange::none);
  if (!fit)
    throw_input_error(fmt::format("a sample weight for each row, or for each of its labels {}", labels.to_string()),
                      fmt::format("{} has rows of {}", weights.name(), from.to_string()), "check the weights");
  const auto count = static_cast<std::size_t>(fit->shape.count());
  RowTransform result = make_transform(weights.name(), from, {DType::f32, fit->shape}, flat(count), RowScale{});
  result.is_copy = false;
  result.apply = with_weight_check(std::move(result.apply), weights.name(), count);
  return result;
}

}  // namespace halfstep
