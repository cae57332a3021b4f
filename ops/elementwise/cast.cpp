#include "ops/elementwise/cast.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/parse_number.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A float of 8 or 4 bits: a sign, then exponent and mantissa. Codes without the sign, up to `max_code`, are its finite
/// values in ascending order.
struct Minifloat {
  DType dtype;
  int mantissa_bits, bias;
  std::uint8_t sign_bit, max_code;
  std::uint8_t nan_code;  ///< equal to sign_bit where negative zero's code is the only NaN (the "uz" types)
  std::uint8_t inf_code;  ///< 0: the type has no infinity
};

constexpr std::array<Minifloat, 5> kMinifloats{{
    {DType::f8e4m3fn, 3, 7, 0x80, 0x7e, 0x7f, 0},
    {DType::f8e4m3fnuz, 3, 8, 0x80, 0x7f, 0x80, 0},
    {DType::f8e5m2, 2, 15, 0x80, 0x7b, 0x7e, 0x7c},
    {DType::f8e5m2fnuz, 2, 16, 0x80, 0x7f, 0x80, 0},
    {DType::f4e2m1, 1, 1, 0x8, 0x7, 0x8, 0},
}};

const Minifloat* find_minifloat(DType dtype) {
  for (const Minifloat& m : kMinifloats)
    if (m.dtype == dtype) return &m;
  return nullptr;
}

/// Value of a code without sign as if the type had no specials.
double magnitude(const Minifloat& m, int code) {
  const int exponent = code >> m.mantissa_bits;
  const int mantissa = code & ((1 << m.mantissa_bits) - 1);
  return exponent == 0 ? std::ldexp(mantissa, 1 - m.bias - m.mantissa_bits)
                       : std::ldexp(mantissa + (1 << m.mantissa_bits), exponent - m.bias - m.mantissa_bits);
}

double decode_minifloat(const Minifloat& m, std::uint8_t code) {
  const std::uint8_t unsigned_code = code & static_cast<std::uint8_t>(m.sign_bit - 1);
  const double sign = code & m.sign_bit ? -1 : 1;
  const bool has_nan = m.dtype != DType::f4e2m1;
  if (has_nan && m.nan_code == m.sign_bit && code == m.nan_code) return kNaN;
  if (unsigned_code <= m.max_code) return sign * magnitude(m, unsigned_code);
  return m.inf_code && unsigned_code == m.inf_code ? sign * kInf : kNaN;
}

std::uint8_t encode_minifloat(const Minifloat& m, double value, bool saturate) {
  const bool is_signed_nan = m.nan_code != m.sign_bit;
  const std::uint8_t sign = std::signbit(value) ? m.sign_bit : 0;
  const auto nan = static_cast<std::uint8_t>(is_signed_nan ? m.nan_code | sign : m.nan_code);
  if (std::isnan(value)) return nan;
  const double x = std::fabs(value);
  // The code one above max_code stands for overflow: rounding towards it means the value does not fit.
  int low = 0, high = m.max_code + 1;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (magnitude(m, middle) <= x ? low : high) = middle;
  }
  const double to_low = x - magnitude(m, low), to_high = magnitude(m, high) - x;
  const int code = to_low < to_high || (to_low == to_high && low % 2 == 0) ? low : high;
  const bool overflows = code > m.max_code || x == kInf;
  // Floats of 4 bits have nothing but finite values, and f8e5m2 keeps its infinity.
  if (overflows && !saturate && m.dtype != DType::f4e2m1)
    return m.inf_code ? static_cast<std::uint8_t>(m.inf_code | sign) : nan;
  const auto finite = static_cast<std::uint8_t>(overflows ? m.max_code : code);
  if (finite == 0 && m.nan_code == m.sign_bit && m.dtype != DType::f4e2m1) return 0;  // no negative zero
  return finite | sign;
}

/// f8e8m0: the code c is 2^(c-127), 255 is NaN; there is no sign and no zero.
std::uint8_t encode_power_of_two(double value, const CastOptions& options) {
  if (!std::isfinite(value)) return std::isnan(value) || !options.saturate ? 0xff : value > 0 ? 0xfe : 0;
  if (value <= 0) return options.saturate ? 0 : 0xff;
  int exponent = 0;
  const double fraction = 2 * std::frexp(value, &exponent);  // in [1, 2)
  --exponent;
  const bool up = options.round_mode == "up" ? fraction > 1 : options.round_mode == "nearest" && fraction >= 1.5;
  const int code = exponent + up + 127;
  if (code < 0 || code > 0xfe) return !options.saturate ? 0xff : code < 0 ? 0 : 0xfe;
  return static_cast<std::uint8_t>(code);
}

bool is_small_integer(DType dtype) {
  return dtype == DType::u4 || dtype == DType::i4 || dtype == DType::u2 || dtype == DType::i2;
}
bool is_native(DType dtype) { return is_float(dtype) || is_integer(dtype) || dtype == DType::boolean; }

std::string format(double value, DType dtype) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "INF" : "-INF";
  std::array<char, 400> text{};  // the longest fixed form of a double takes 327 characters
  std::to_chars_result result{};
  if (dtype == DType::f64)
    result = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  else
    result = std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(value), std::chars_format::fixed);
  return {text.data(), result.ptr};
}

std::vector<std::string> to_strings(const Tensor& tensor) {
  std::vector<std::string> result(static_cast<std::size_t>(tensor.count()));
  const DType dtype = tensor.dtype();
  if (is_integer(dtype) || dtype == DType::boolean) {
    visit_wide(dtype, [&]<class W>() {
      std::ranges::transform(load<W>(tensor), result.begin(), [](W x) { return std::to_string(x); });
    });
  } else {
    std::ranges::transform(decode(tensor), result.begin(), [&](double x) { return format(x, dtype); });
  }
  return result;
}

double number_in(const std::string& text) {
  const char *first = text.data(), *last = text.data() + text.size();
  if (first != last && *first == '+') ++first;
  double value = 0;  // from_chars takes "inf" and "nan" in any case
  const auto [end, error] = std::from_chars(first, last, value);
  if (error == std::errc::result_out_of_range) return *first == '-' ? -kInf : kInf;
  if (error != std::errc{} || end != last)
    throw_input_error("text that is a number", "'" + text + "'", "cast such strings before they reach the model");
  return value;
}

/// Text to 64-bit integers exactly where it is one, otherwise through double.
Tensor parse_integers(const Tensor& from) {
  Tensor wide(DType::i64, from.shape());
  for (std::int64_t i = 0; i < from.count(); ++i) {
    const std::string& text = from.data<std::string>()[i];
    const auto exact = parse_number<std::int64_t>(text);
    wide.data<std::int64_t>()[i] = exact ? *exact : to_int64s(Tensor::scalar(number_in(text)))[0];
  }
  return wide;
}

void encode(const std::vector<double>& values, Tensor& to, const CastOptions& options) {
  std::vector<std::uint8_t> codes(values.size());
  if (const Minifloat* m = find_minifloat(to.dtype())) {
    std::ranges::transform(values, codes.begin(), [&](double x) { return encode_minifloat(*m, x, options.saturate); });
  } else {
    std::ranges::transform(values, codes.begin(), [&](double x) { return encode_power_of_two(x, options); });
  }
  pack(codes, to);
}

}  // namespace

std::vector<std::uint8_t> unpack(const Tensor& tensor) {
  const std::size_t bits = bits_of(tensor.dtype()), per_byte = 8 / bits;
  const auto* bytes = static_cast<const std::uint8_t*>(tensor.raw());
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(tensor.count()));
  for (std::size_t i = 0; i < codes.size(); ++i)
    codes[i] = static_cast<std::uint8_t>((bytes[i / per_byte] >> (i % per_byte * bits)) & ((1u << bits) - 1));
  return codes;
}

void pack(const std::vector<std::uint8_t>& codes, Tensor& tensor) {
  const std::size_t bits = bits_of(tensor.dtype()), per_byte = 8 / bits;
  auto* bytes = static_cast<std::uint8_t*>(tensor.raw());
  std::fill_n(bytes, tensor.bytes(), std::uint8_t{0});
  for (std::size_t i = 0; i < codes.size(); ++i)
    bytes[i / per_byte] |= static_cast<std::uint8_t>((codes[i] & ((1u << bits) - 1)) << (i % per_byte * bits));
}

std::vector<double> decode(const Tensor& tensor) {
  const DType dtype = tensor.dtype();
  if (is_native(dtype)) return to_doubles(tensor);
  const Minifloat* m = find_minifloat(dtype);
  if (!m && dtype != DType::f8e8m0 && !is_small_integer(dtype))
    throw_input_error("a numeric element type", std::string(name_of(dtype)), "convert the tensor first");
  const bool is_signed = dtype == DType::i4 || dtype == DType::i2;
  const int sign_bit = 1 << (bits_of(dtype) - 1);
  const std::vector<std::uint8_t> codes = unpack(tensor);
  std::vector<double> values(codes.size());
  std::ranges::transform(codes, values.begin(), [&](std::uint8_t code) -> double {
    if (m) return decode_minifloat(*m, code);
    if (dtype == DType::f8e8m0) return code == 0xff ? kNaN : std::ldexp(1.0, code - 127);
    return is_signed ? (code ^ sign_bit) - sign_bit : code;
  });
  return values;
}

void cast(const Tensor& from, Tensor& to, const CastOptions& options) {
  if (from.dtype() == to.dtype()) return copy_elements(from, to);
  if (to.dtype() == DType::string) {
    std::ranges::copy(to_strings(from), to.data<std::string>());
    return;
  }
  if (from.dtype() == DType::string && (is_integer(to.dtype()) || is_small_integer(to.dtype())))
    return cast(parse_integers(from), to, options);
  if (from.dtype() == DType::string) {
    Tensor numbers(DType::f64, from.shape());
    std::transform(from.data<std::string>(), from.data<std::string>() + from.count(), numbers.data<double>(),
                   number_in);
    return cast(numbers, to, options);
  }
  if (is_native(from.dtype()) && is_native(to.dtype())) return copy_elements(convert(from, to.dtype()), to);

  const std::vector<double> values = decode(from);
  if (is_native(to.dtype())) return store(to, values);
  if (!is_small_integer(to.dtype())) {
    if (!find_minifloat(to.dtype()) && to.dtype() != DType::f8e8m0)
      throw_input_error("a numeric element type to cast to", std::string(name_of(to.dtype())), "check the node's type");
    return encode(values, to, options);
  }
  const Tensor integers = convert(Tensor::of(values), DType::i64);
  std::vector<std::uint8_t> codes(values.size());
  std::ranges::transform(integers.span<std::int64_t>(), codes.begin(),
                         [](std::int64_t x) { return static_cast<std::uint8_t>(x); });
  pack(codes, to);
}

}  // namespace halfstep::ops
