#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "base/row_named.h"
#include "data/label_limits.h"
#include "data/row_shape.h"
#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>
#include <halfstep/data/row_transform.h>

namespace halfstep {
namespace {

using Rows = std::span<const std::int64_t>;

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

/// A row as `channels` planes of `extent` elements, with the strides in memory before and after the conversion.
struct Geometry {
  std::size_t channels = 1, extent = 1;
  std::size_t in_channel_step = 0, in_step = 1;
  std::size_t out_channel_step = 0, out_step = 1;

  std::size_t count() const { return channels * extent; }
};

Geometry flat(std::size_t count) { return {.extent = count}; }

Geometry planes(std::size_t count, std::size_t channels, bool in_last, bool out_last) {
  const std::size_t extent = channels ? count / channels : 0;
  Geometry g{.channels = channels, .extent = extent};
  g.in_channel_step = in_last ? 1 : extent;
  g.in_step = in_last ? channels : 1;
  g.out_channel_step = out_last ? 1 : extent;
  g.out_step = out_last ? channels : 1;
  return g;
}

/// value * multiplier + offset, with one pair for all or one per channel.
struct Affine {
  std::vector<double> multiplier{1}, offset{0};

  bool is_identity() const { return channels() == 1 && multiplier[0] == 1 && offset[0] == 0; }
  std::size_t channels() const { return multiplier.size(); }
};

/// Calls visit(c, x, y, n) for every plane of every row: its channel c, its first elements before and after, and its
/// size.
template <class From, class To, class Visit>
void for_each_plane(const Geometry& g, const From* in, std::size_t rows, To* out, const Visit& visit) {
  if (g.channels == 1) return visit(0, in, out, rows * g.extent);
  for (std::size_t r = 0; r < rows; ++r, in += g.count(), out += g.count())
    for (std::size_t c = 0; c < g.channels; ++c)
      visit(c, in + c * g.in_channel_step, out + c * g.out_channel_step, g.extent);
}

/// Whether To can represent `value`, which is then stored in `result`. Any number converts to bool: whether it is not
/// 0.
template <class To, class From>
bool to_exactly(From value, To& result) {
  if constexpr (std::is_same_v<From, f16> || std::is_same_v<From, bf16>) {
    return to_exactly(static_cast<float>(value), result);
  } else if constexpr (std::is_same_v<To, bool>) {
    result = value != From{};
    return true;
  } else if constexpr (std::is_same_v<From, bool>) {
    result = static_cast<To>(value);
    return true;
  } else if constexpr (std::is_floating_point_v<From>) {
    using Limits = std::numeric_limits<To>;
    const From end = std::ldexp(From{1}, Limits::digits);  // one past the maximum, exact in any float
    const bool in_range = value >= static_cast<From>(Limits::min()) && value < end;
    result = in_range ? static_cast<To>(value) : To{};
    return in_range && static_cast<From>(result) == value;
  } else {
    result = static_cast<To>(value);
    return std::in_range<To>(value);
  }
}

[[noreturn]] void throw_at_row(const std::string& name, std::int64_t row, const std::string& required,
                               const std::string& found) {
  throw_input_error(required, fmt::format("{} in row {} of {}", found, row, name), "check the data");
}

template <class T>
std::string text_of(T value) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)
    return fmt::format("{}", static_cast<float>(value));
  else
    return fmt::format("{}", value);
}

using Apply = decltype(RowTransform::apply);

/// A conversion of rows independent of element types, so that only its loops are instantiated for each pair of types.
struct Conversion {
  std::string name;  // of the data
  RowType to;
  Geometry geometry = {};
  Affine affine = {};
};
using Convert = void (*)(const Conversion&, const void* in, Rows rows, void* out);

Apply applying(Convert convert, Conversion conversion) {
  return [convert, conversion = std::move(conversion)](const void* in, Rows rows, void* out) {
    convert(conversion, in, rows, out);
  };
}

/// What values of From are scaled in to become To.
template <class From, class To>
using ScaledIn = std::conditional_t<std::is_same_v<From, double> || std::is_same_v<To, double>, double, float>;

/// Whether a finite value of From might not stay finite.
template <class From, class To>
bool may_overflow(const Affine& affine) {
  using Compute = ScaledIn<From, To>;
  if (std::is_same_v<To, f16> || std::is_same_v<To, bf16> || std::is_same_v<From, double>) return true;
  if (affine.is_identity()) return false;
  if constexpr (std::is_integral_v<From>) {
    constexpr double kLargest = static_cast<double>(std::numeric_limits<From>::max()) + 1;  // in magnitude
    constexpr double kRoom = static_cast<double>(std::numeric_limits<Compute>::max()) / 4;
    for (std::size_t c = 0; c < affine.channels(); ++c)
      if (!(std::abs(affine.multiplier[c]) * kLargest + std::abs(affine.offset[c]) < kRoom)) return true;
    return false;
  }
  return true;
}

/// Floats out of anything, scaled.
template <class From, class To>
void convert_scaled(const Conversion& conversion, const void* in, Rows rows, void* out) {
  using Compute = ScaledIn<From, To>;
  using Value = std::conditional_t<std::is_arithmetic_v<From>, From, float>;  // the half types convert to float only
  const Geometry& g = conversion.geometry;
  const Affine& affine = conversion.affine;
  const auto scale_plane = [&](std::size_t c, const From* __restrict x, To* __restrict y, std::size_t n) {
    const std::size_t k = affine.channels() > 1 ? c : 0;
    const auto m = static_cast<Compute>(affine.multiplier[k]), b = static_cast<Compute>(affine.offset[k]);
    const auto scale = [m, b](From value) {
      return static_cast<To>(static_cast<Compute>(static_cast<Value>(value)) * m + b);
    };
    if (g.in_step == 1 && g.out_step == 1)  // plain, so that the compiler vectorises it
      for (std::size_t i = 0; i < n; ++i) y[i] = scale(x[i]);
    else
      for (std::size_t i = 0; i < n; ++i) y[i * g.out_step] = scale(x[i * g.in_step]);
  };
  for_each_plane(g, static_cast<const From*>(in), rows.size(), static_cast<To*>(out), scale_plane);
  if (may_overflow<From, To>(affine)) require_finite(conversion.name, conversion.to, out, rows);
}

/// Integers and bools from any type with exactly such values.
template <class From, class To>
void convert_exactly(const Conversion& conversion, const void* in_bytes, Rows rows, void* out) {
  const Geometry& g = conversion.geometry;
  const From* in = static_cast<const From*>(in_bytes);
  bool exact = true;
  const auto convert_plane = [&](std::size_t, const From* x, To* y, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) exact &= to_exactly(x[i * g.in_step], y[i * g.out_step]);
  };
  for_each_plane(g, in, rows.size(), static_cast<To*>(out), convert_plane);
  To ignored;
  for (std::size_t i = 0; !exact && i < rows.size() * g.count(); ++i)
    if (!to_exactly(in[i], ignored))
      throw_at_row(conversion.name, rows[i / g.count()],
                   fmt::format("values that {} can hold", name_of(conversion.to.dtype)), text_of(in[i]));
}

Convert convert_of(DType from, DType to) {
  return visit_dtype(from, [&]<class From>() {
    return visit_dtype(to, [&]<class To>() -> Convert {
      if constexpr (std::is_integral_v<To>)
        return convert_exactly<From, To>;
      else
        return convert_scaled<From, To>;
    });
  });
}

RowTransform make_transform(const std::string& name, const RowType& from, const RowType& to, const Geometry& g,
                            const Affine& affine) {
  RowTransform result{.from = from, .to = to, .is_copy = false, .apply = {}};
  result.is_copy = from.dtype == to.dtype && affine.is_identity() && g.in_step == g.out_step;
  if (result.is_copy) {
    const std::size_t row_bytes = bytes_of(from.dtype, static_cast<std::size_t>(from.shape.count()));
    result.apply = [row_bytes](const void* in, Rows rows, void* out) { std::memcpy(out, in, rows.size() * row_bytes); };
  } else {
    result.apply = applying(convert_of(from.dtype, to.dtype), {name, to, g, affine});
  }
  return result;
}

[[noreturn]] void throw_no_fit(const DataArray& array, const RowType& wanted) {
  throw_input_error(fmt::format("rows that fit the model's {}", wanted.to_string()),
                    fmt::format("{} has rows of {}", array.name(), array.row_type().to_string()),
                    "reshape the data, or use the data the model was made for");
}

Affine affine_of(const RowType& from, const RowType& to, const InputOptions& options) {
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
  Affine affine{std::vector<double>(channels), std::vector<double>(channels)};
  for (std::size_t c = 0; c < channels; ++c) {
    const double mean = value_of(options.mean, c, 0), stddev = value_of(options.stddev, c, 1);
    affine.multiplier[c] = scale / stddev;
    affine.offset[c] = 0.0 - mean / stddev;  // not -mean: that makes 0 a -0
    if (!is_finite(affine.multiplier[c]) || !is_finite(affine.offset[c]))
      throw_input_error("a finite scale and mean, and a standard deviation other than 0, in the type of the input",
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

Geometry geometry_of(const RowShapeFit& fit, const Shape& from, const Affine& affine) {
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

/// One-hot rows, with the length of the last axis of `to`, from class indices.
template <class From, class To>
void convert_to_one_hot(const Conversion& conversion, const void* in_bytes, Rows rows, void* out_bytes) {
  const std::int64_t classes = conversion.to.shape.dim(-1);
  const auto count = static_cast<std::size_t>(conversion.to.shape.count() / classes);  // of indices in a row
  const From* in = static_cast<const From*>(in_bytes);
  To* out = static_cast<To*>(out_bytes);
  std::fill_n(out, rows.size() * count * static_cast<std::size_t>(classes), To(0.0f));
  for (std::size_t i = 0; i < rows.size() * count; ++i, out += classes) {
    std::int64_t index = 0;
    if (!to_exactly(in[i], index) || index < 0 || index >= classes)
      throw_at_row(conversion.name, rows[i / count], fmt::format("class indices in [0, {})", classes), text_of(in[i]));
    out[index] = To(1.0f);
  }
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
  const auto convert = visit_dtype(from.dtype, [&]<class From>() {
    return visit_dtype(wanted.dtype, [&]<class To>() -> Convert {
      if constexpr (std::is_integral_v<From> && !std::is_integral_v<To>)
        return convert_to_one_hot<From, To>;
      else
        return nullptr;
    });
  });
  const RowType to{wanted.dtype, Shape(dims)};
  return RowTransform{
      .from = from, .to = to, .is_copy = false, .apply = applying(convert, {.name = y.name(), .to = to})};
}

/// `convert`, followed by a check of every resulting index.
template <class T>
Apply with_range_check(Apply convert, const std::string& name, std::size_t count, const TargetOptions& options) {
  const std::int64_t classes = *options.classes;
  const std::optional<std::int64_t> ignored = options.ignore_index;
  return [=](const void* in, Rows rows, void* out) {
    convert(in, rows, out);
    const T* indices = static_cast<const T*>(out);
    for (std::size_t i = 0; i < rows.size() * count; ++i) {
      const auto index = static_cast<std::int64_t>(indices[i]);
      if ((index < 0 || index >= classes) && index != ignored)
        throw_input_error(
            fmt::format("class indices in [0, {}){}", classes,
                        ignored ? fmt::format(", or {} for ignored rows", *ignored) : ""),
            fmt::format("{} in row {} of {}", index, rows[i / count], name),
            ignored ? fmt::format(
                          "check the data and the number of classes of the model; --ignore-label {} ignores such rows",
                          index)
                    : "check the data");
    }
  };
}

/// `convert`, followed by a check that every result is a probability.
Apply with_probability_check(Apply convert, const std::string& name, std::size_t count,
                             std::optional<std::int64_t> ignored) {
  const float skipped = ignored ? static_cast<float>(*ignored) : 0;
  return [=](const void* in, Rows rows, void* out) {
    convert(in, rows, out);
    const auto* values = static_cast<const float*>(out);
    for (std::size_t i = 0; i < rows.size() * count; ++i)
      if (!is_probability(values[i]) && values[i] != skipped)
        throw_input_error(
            fmt::format("labels from 0 to 1{}", ignored ? fmt::format(", or {} for ignored elements", *ignored) : ""),
            fmt::format("{} in row {} of {}", values[i], rows[i / count], name),
            "check the labels, or choose another loss with --loss");
  };
}

/// `convert`, followed by a check that every result is a valid weight.
Apply with_weight_check(Apply convert, const std::string& name, std::size_t count) {
  return [=](const void* in, Rows rows, void* out) {
    convert(in, rows, out);
    const auto* weights = static_cast<const float*>(out);
    for (std::size_t i = 0; i < rows.size() * count; ++i)
      if (!is_sample_weight(weights[i]))
        throw_at_row(name, rows[i / count], fmt::format("sample weights from 0 to {:g}", kMostSampleWeight),
                     text_of(weights[i]));
  };
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
  const Affine affine = affine_of(from, wanted, options);
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
  RowTransform result = make_transform(y.name(), from, {wanted.dtype, fit->shape}, flat(count), Affine{});
  if (options.classes && is_integer(wanted.dtype)) {
    result.is_copy = false;
    result.apply = visit_dtype(wanted.dtype, [&]<class T>() -> Apply {
      if constexpr (!std::is_integral_v<T>)
        return {};
      else
        return with_range_check<T>(std::move(result.apply), y.name(), count, options);
    });
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
  RowTransform result = make_transform(weights.name(), from, {DType::f32, fit->shape}, flat(count), Affine{});
  result.is_copy = false;
  result.apply = with_weight_check(std::move(result.apply), weights.name(), count);
  return result;
}

}  // namespace halfstep
