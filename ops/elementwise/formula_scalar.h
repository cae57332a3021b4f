// Single numbers as formulas see them: floats, and integers that wrap around. Runs on a CUDA device as well.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#define HALFSTEP_ANYWHERE __host__ __device__
#else
#define HALFSTEP_ANYWHERE
#endif

namespace halfstep::formulas {

/// T is a float or an integer of 32 or 64 bits. A mask is a bool. Integers divided by 0 give 0: whoever must refuse
/// that looks at the divisors first.
template <class T>
struct Scalar {
  static constexpr bool kIsFloat = std::is_floating_point_v<T>;
  T raw;

  HALFSTEP_ANYWHERE constexpr Scalar(double literal) : raw(converted(literal)) {}
  HALFSTEP_ANYWHERE static constexpr Scalar of(T value) {
    Scalar x(0.0);
    x.raw = value;
    return x;
  }

  HALFSTEP_ANYWHERE friend Scalar operator+(Scalar a, Scalar b) { return of(T(wide(a) + wide(b))); }
  HALFSTEP_ANYWHERE friend Scalar operator-(Scalar a, Scalar b) { return of(T(wide(a) - wide(b))); }
  HALFSTEP_ANYWHERE friend Scalar operator*(Scalar a, Scalar b) { return of(T(wide(a) * wide(b))); }
  HALFSTEP_ANYWHERE friend Scalar operator/(Scalar a, Scalar b) {
    if constexpr (!kIsFloat) {
      if (b.raw == 0) return 0;
      if constexpr (std::is_signed_v<T>)
        if (b.raw == -1) return -a;
    }
    return of(a.raw / b.raw);
  }
  HALFSTEP_ANYWHERE friend Scalar operator-(Scalar x) {
    if constexpr (kIsFloat)
      return of(-x.raw);
    else
      return of(T(0 - wide(x)));
  }
  HALFSTEP_ANYWHERE friend bool operator==(Scalar a, Scalar b) { return a.raw == b.raw; }
  HALFSTEP_ANYWHERE friend bool operator!=(Scalar a, Scalar b) { return a.raw != b.raw; }
  HALFSTEP_ANYWHERE friend bool operator<(Scalar a, Scalar b) { return a.raw < b.raw; }
  HALFSTEP_ANYWHERE friend bool operator<=(Scalar a, Scalar b) { return a.raw <= b.raw; }
  HALFSTEP_ANYWHERE friend bool operator>(Scalar a, Scalar b) { return a.raw > b.raw; }
  HALFSTEP_ANYWHERE friend bool operator>=(Scalar a, Scalar b) { return a.raw >= b.raw; }
  HALFSTEP_ANYWHERE friend bool is_nan(Scalar x) { return x.raw != x.raw; }
  HALFSTEP_ANYWHERE friend Scalar select(bool mask, Scalar a, Scalar b) { return mask ? a : b; }
  HALFSTEP_ANYWHERE friend Scalar mul_add(Scalar a, Scalar b, Scalar c) { return a * b + c; }

  HALFSTEP_ANYWHERE friend Scalar abs(Scalar x) {
    if constexpr (kIsFloat)
      return of(std::fabs(x.raw));
    else
      return x < 0 ? -x : x;
  }
  HALFSTEP_ANYWHERE friend Scalar copysign(Scalar x, Scalar sign) {  // of floats
    if constexpr (kIsFloat)
      return of(std::copysign(x.raw, sign.raw));
    else
      return x;
  }
  HALFSTEP_ANYWHERE friend Scalar fmod(Scalar a, Scalar b) {
    if constexpr (kIsFloat)
      return of(std::fmod(a.raw, b.raw));
    else
      return b == 0 ? b : a - a / b * b;
  }
  HALFSTEP_ANYWHERE friend Scalar pow(Scalar base, Scalar exponent) {
    if constexpr (kIsFloat)
      return of(std::pow(base.raw, exponent.raw));
    else
      return integer_power(base, exponent);
  }
  // Of floats.
  HALFSTEP_ANYWHERE friend Scalar floor(Scalar x) { return of(std::floor(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar ceil(Scalar x) { return of(std::ceil(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar round(Scalar x) { return of(std::nearbyint(x.raw)); }  // ties to even
  HALFSTEP_ANYWHERE friend Scalar sqrt(Scalar x) { return of(std::sqrt(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar exp(Scalar x) { return of(std::exp(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar moderate_exp(Scalar x) { return exp(x); }  // |x| < 87.5
  HALFSTEP_ANYWHERE friend Scalar expm1(Scalar x) { return of(std::expm1(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar expm1_negative(Scalar x) { return expm1(x); }  // where x is not, any number or NaN
  HALFSTEP_ANYWHERE friend Scalar log(Scalar x) { return of(std::log(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar log1p_unit(Scalar x) { return of(std::log1p(x.raw)); }  // 0 <= x <= 1
  HALFSTEP_ANYWHERE friend Scalar erf(Scalar x) { return of(std::erf(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar tanh(Scalar x) { return of(std::tanh(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar sin(Scalar x) { return of(std::sin(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar cos(Scalar x) { return of(std::cos(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar tan(Scalar x) { return of(std::tan(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar asin(Scalar x) { return of(std::asin(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar acos(Scalar x) { return of(std::acos(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar atan(Scalar x) { return of(std::atan(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar sinh(Scalar x) { return of(std::sinh(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar cosh(Scalar x) { return of(std::cosh(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar asinh(Scalar x) { return of(std::asinh(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar acosh(Scalar x) { return of(std::acosh(x.raw)); }
  HALFSTEP_ANYWHERE friend Scalar atanh(Scalar x) { return of(std::atanh(x.raw)); }

 private:
  HALFSTEP_ANYWHERE static constexpr T converted(double literal) {
    if constexpr (kIsFloat)
      return static_cast<T>(literal);
    else
      return static_cast<T>(static_cast<std::int64_t>(literal));
  }
  /// What sums and products are taken in: signed overflow is none.
  HALFSTEP_ANYWHERE static constexpr auto wide(Scalar x) {
    if constexpr (kIsFloat)
      return x.raw;
    else
      return static_cast<std::make_unsigned_t<T>>(x.raw);
  }
  /// A negative exponent gives the truncated reciprocal.
  HALFSTEP_ANYWHERE static Scalar integer_power(Scalar base, Scalar exponent) {
    const bool is_odd = (exponent.raw & 1) != 0;
    if (exponent < 0) return base == 1 ? base : base == -1 ? (is_odd ? base : -base) : Scalar(0);
    Scalar result(1);
    for (T e = exponent.raw; e > 0; e >>= 1, base = base * base)
      if (e & 1) result = result * base;
    return result;
  }
};

}  // namespace halfstep::formulas
