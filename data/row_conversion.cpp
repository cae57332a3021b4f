#include "data/row_conversion.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>

namespace halfstep {
namespace {

/// Calls visit(c, x, y, n) for every plane of every row: its channel c, its first elements before and after, and its
/// size.
template <class From, class To, class Visit>
void for_each_plane(const RowGeometry& g, const From* in, std::size_t rows, To* out, const Visit& visit) {
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

template <class T>
std::string text_of(T value) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)
    return fmt::format("{}", static_cast<float>(value));
  else
    return fmt::format("{}", value);
}

/// What values of From are scaled in to become To.
template <class From, class To>
using ScaledIn = std::conditional_t<std::is_same_v<From, double> || std::is_same_v<To, double>, double, float>;

/// Whether a finite value of From might not stay finite.
template <class From, class To>
bool may_overflow(const RowScale& affine) {
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
void convert_scaled(const RowConversion& conversion, const void* in, RowNumbers rows, void* out) {
  using Compute = ScaledIn<From, To>;
  using Value = std::conditional_t<std::is_arithmetic_v<From>, From, float>;  // the half types convert to float only
  const RowGeometry& g = conversion.geometry;
  const RowScale& affine = conversion.affine;
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
void convert_exactly(const RowConversion& conversion, const void* in_bytes, RowNumbers rows, void* out) {
  const RowGeometry& g = conversion.geometry;
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

/// One-hot rows, with the length of the last axis of `to`, from class indices.
template <class From, class To>
void convert_to_one_hot(const RowConversion& conversion, const void* in_bytes, RowNumbers rows, void* out_bytes) {
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

}  // namespace

ApplyRows applying(ConvertRows convert, RowConversion conversion) {
  return [convert, conversion = std::move(conversion)](const void* in, RowNumbers rows, void* out) {
    convert(conversion, in, rows, out);
  };
}

ConvertRows conversion_of(DType from, DType to) {
  return visit_dtype(from, [&]<class From>() {
    return visit_dtype(to, [&]<class To>() -> ConvertRows {
      if constexpr (std::is_integral_v<To>)
        return convert_exactly<From, To>;
      else
        return convert_scaled<From, To>;
    });
  });
}

ConvertRows one_hot_conversion(DType from, DType to) {
  return visit_dtype(from, [&]<class From>() {
    return visit_dtype(to, [&]<class To>() -> ConvertRows {
      if constexpr (std::is_integral_v<From> && !std::is_integral_v<To>)
        return convert_to_one_hot<From, To>;
      else
        return nullptr;
    });
  });
}

[[noreturn]] void throw_at_row(const std::string& name, std::int64_t row, const std::string& required,
                               const std::string& found) {
  throw_input_error(required, fmt::format("{} in row {} of {}", found, row, name), "check the data");
}

}  // namespace halfstep
