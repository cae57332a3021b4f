// Elementary functions on vectors of f32, within about 2 units in the last place of the true value over all floats,
// infinities, NaN and subnormal numbers included; of the slopes of GELU the absolute error is bounded. Polynomials are
// minimax fits made for these ranges.
#if defined(HALFSTEP_SIMD_MATH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFSTEP_SIMD_MATH_INL_H
#undef HALFSTEP_SIMD_MATH_INL_H
#else
#define HALFSTEP_SIMD_MATH_INL_H
#endif

#include <limits>

#include "executors/onednn/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

HWY_INLINE V constant(float value) { return hn::Set(F32(), value); }

/// A NaN stays one.
HWY_INLINE V relu(V x) { return hn::IfThenZeroElse(hn::Lt(x, constant(0)), x); }

/// x raised to `low`, then lowered to `high`; a NaN stays one.
HWY_INLINE V clamp(V x, V low, V high) {
  const V raised = hn::IfThenElse(hn::Lt(x, low), low, x);
  return hn::IfThenElse(hn::Gt(raised, high), high, raised);
}

/// c[0] + c[1] x + ... by Horner's rule.
template <std::size_t N>
HWY_INLINE V polynomial(V x, const float (&c)[N]) {
  V y = constant(c[N - 1]);
  for (std::size_t i = N - 1; i-- > 0;) y = hn::MulAdd(y, x, constant(c[i]));
  return y;
}

/// 2^n for integer n in [-126, 127].
HWY_INLINE V power_of_two(hn::Vec<I32> n) {
  return hn::BitCast(F32(), hn::ShiftLeft<23>(hn::Add(n, hn::Set(I32(), 127))));
}

/// x = n ln 2 + r with |r| <= ln(2)/2; `fraction` = exp(r) - 1.
struct ExpParts {
  hn::Vec<I32> n;
  V fraction;
};
HWY_INLINE ExpParts exp_parts(V x) {
  static constexpr float kTail[] = {0.5F, 0.16666667F, 0.041666254F, 0.008333263F, 0.0013947212F, 0.0001991936F};
  const V n = hn::Round(hn::Mul(x, constant(1.44269504F)));
  V r = hn::NegMulAdd(n, constant(0.693359375F), x);
  r = hn::NegMulAdd(n, constant(-2.12194440e-4F), r);
  return {hn::ConvertTo(I32(), n), hn::MulAdd(hn::Mul(r, r), polynomial(r, kTail), r)};
}

/// factor exp(x), to full accuracy also where exp(x) alone is subnormal.
HWY_INLINE V times_exp(V factor, V x) {
  const V lowest = constant(-170);  // zero for any finite factor
  const ExpParts parts = exp_parts(hn::Min(hn::Max(x, lowest), constant(89)));
  const auto half = hn::ShiftRight<1>(parts.n);  // two powers, since one alone may not be representable
  const V scaled = hn::Mul(hn::Add(parts.fraction, constant(1)), power_of_two(half));
  const V rest = hn::IfThenZeroElse(hn::Lt(x, lowest), power_of_two(hn::Sub(parts.n, half)));
  const V y = hn::Mul(hn::Mul(scaled, factor), rest);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

HWY_INLINE V exp(V x) { return times_exp(constant(1), x); }

/// exp(x) for |x| < 87.5.
HWY_INLINE V moderate_exp(V x) {
  const ExpParts parts = exp_parts(x);
  const V scale = power_of_two(parts.n);
  return hn::MulAdd(scale, parts.fraction, scale);
}

/// exp(x), or 0 where that is less than the normal numbers, on which arithmetic is many times slower. What a mask lets
/// through, such as exp(-100), would slow down all that is computed from it.
HWY_INLINE V normal_exp(V x) { return exp(hn::IfThenElse(hn::Lt(x, constant(-87.33654F)), constant(-kInfinity), x)); }

/// The same, to the bit, for x < 88: of what is not above a maximum. A NaN stays one.
HWY_INLINE V decaying_exp(V x) { return hn::IfThenZeroElse(hn::Lt(x, constant(-87.33654F)), moderate_exp(x)); }

/// exp(x) - 1 for x <= 0.
HWY_INLINE V expm1_negative(V x) {
  const ExpParts parts = exp_parts(hn::Max(x, constant(-30)));
  const V scale = power_of_two(parts.n);
  const V y = hn::MulAdd(scale, parts.fraction, hn::Sub(scale, constant(1)));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

HWY_INLINE V log(V x) {
  static constexpr float kTail[] = {0.3333331F,   -0.24999987F, 0.20002219F, -0.16669245F, 0.1421878F,
                                    -0.12384494F, 0.11872309F,  -0.117888F,  0.06915578F};
  const auto subnormal = hn::Lt(x, constant(std::numeric_limits<float>::min()));
  const V normal = hn::IfThenElse(subnormal, hn::Mul(x, constant(0x1p23F)), x);
  const auto bits = hn::BitCast(I32(), normal);
  const auto n = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(I32(), 0x3f3504f3)));  // 0x3f3504f3 is sqrt(1/2)
  const V f = hn::Sub(hn::BitCast(F32(), hn::Sub(bits, hn::ShiftLeft<23>(n))), constant(1));
  const V e = hn::Sub(hn::ConvertTo(F32(), n), hn::IfThenElseZero(subnormal, constant(23)));

  const V square = hn::Mul(f, f);
  V y = hn::Mul(hn::Mul(square, f), polynomial(f, kTail));
  y = hn::MulAdd(e, constant(-2.12194440e-4F), y);
  y = hn::NegMulAdd(constant(0.5F), square, y);
  y = hn::MulAdd(e, constant(0.693359375F), hn::Add(f, y));

  y = hn::IfThenElse(hn::Eq(x, constant(0)), constant(-kInfinity), y);
  y = hn::IfThenElse(hn::Lt(x, constant(0)), constant(kNaN), y);
  return hn::IfThenElse(hn::Lt(x, constant(kInfinity)), y, x);  // infinity and NaN are their own logarithm
}

/// log(1 + x) for x in [0, 1].
HWY_INLINE V log1p_unit(V x) {
  const V one = constant(1);
  const V sum = hn::Add(x, one);
  const V lost = hn::Sub(x, hn::Sub(sum, one));
  return hn::Add(log(sum), hn::Div(lost, sum));
}

/// factor / (1 + exp(-x)).
HWY_INLINE V times_sigmoid(V factor, V x) {
  const V e = exp(hn::Neg(hn::Abs(x)));  // in (0, 1]: no overflow
  const V numerator = hn::IfThenElse(hn::Lt(x, constant(0)), times_exp(factor, hn::Neg(hn::Abs(x))), factor);
  return hn::Div(numerator, hn::Add(constant(1), e));
}

HWY_INLINE V sigmoid(V x) { return times_sigmoid(constant(1), x); }

HWY_INLINE V tanh(V x) {
  const V e = expm1_negative(hn::Mul(constant(-2), hn::Abs(x)));  // tanh |x| = -e / (2 + e)
  return hn::CopySign(hn::Div(e, hn::Add(e, constant(2))), x);
}

HWY_INLINE V erf(V x) {
  // Below 1: x + x P(x^2). Above: 1 - exp(-Q(x)), Q = -log(erfc); from 4 on it is 1 to the last bit.
  static constexpr float kSmall[] = {0.12837917F,   -0.37612626F,   0.112836003F,  -0.026854444F,
                                     0.0051895352F, -0.0008020841F, 0.00007889119F};
  static constexpr float kLarge[] = {-0.00018803818F, 1.1295785F,    0.6332199F,      0.10841856F,
                                     -0.025208248F,   0.0042045591F, -0.00044133590F, 0.000021686814F};
  const V magnitude = hn::Min(hn::Abs(x), constant(4));
  const V small = hn::MulAdd(x, polynomial(hn::Mul(x, x), kSmall), x);
  const V large = hn::Sub(constant(1), moderate_exp(hn::Neg(polynomial(magnitude, kLarge))));
  const V y = hn::IfThenElse(hn::Lt(hn::Abs(x), constant(1)), small, hn::CopySign(large, x));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

/// 1/2 + x P(x^2) / Q(x^2), and beyond the bound its limits, 0 and 1.
template <std::size_t N, std::size_t M>
HWY_INLINE V saturating(V x, const float (&p)[N], const float (&q)[M], float bound) {
  const V square = hn::Mul(x, x);
  const V y = hn::MulAdd(x, hn::Div(polynomial(square, p), polynomial(square, q)), constant(0.5F));
  return hn::IfThenZeroElse(hn::Lt(x, constant(-bound)), hn::IfThenElse(hn::Gt(x, constant(bound)), constant(1), y));
}

/// The derivative of x/2 (1 + erf(x / sqrt 2)), within 3e-7, absolutely.
HWY_INLINE V gelu_slope(V x) {
  static constexpr float kP[] = {0.797884524F,   -0.022371361F,  0.0138573442F, 0.000202729309F,
                                 3.40919032e-5F, 9.22524578e-7F, 1.70463004e-8F};
  static constexpr float kQ[] = {1.0F,           0.305294603F,   0.0441335514F, 0.00397150312F, 0.000245323667F,
                                 1.03077055e-5F, 3.38977031e-7F, 1.31476707e-9F};
  return saturating(x, kP, kQ, 6);
}

/// The derivative of its approximation by tanh, within 3e-7, absolutely.
HWY_INLINE V gelu_tanh_slope(V x) {
  static constexpr float kP[] = {0.797884583F,  -0.0544697456F,  0.0138960257F, -0.000373939431F,
                                 3.3141052e-5F, -1.42025229e-7F, 1.55245434e-8F};
  static constexpr float kQ[] = {1.0F,           0.266715556F,   0.0300463401F, 0.00159950508F, 0.000119372889F,
                                 3.73598027e-6F, 1.28383789e-7F, 1.6998809e-9F};
  return saturating(x, kP, kQ, 5.4F);
}

}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
