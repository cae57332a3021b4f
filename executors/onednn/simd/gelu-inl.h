// GELU on vectors of f32, within 2 units in the last place of its argument over all floats, infinities, NaN and
// subnormal numbers included. Included by the sources that Highway's foreach_target.h compiles several times, hence the
// guard that toggles.
#if defined(HALFSTEP_SIMD_GELU_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFSTEP_SIMD_GELU_INL_H
#undef HALFSTEP_SIMD_GELU_INL_H
#else
#define HALFSTEP_SIMD_GELU_INL_H
#endif

#include "executors/onednn/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {

/// As polynomial, but sooner: even and odd powers side by side.
template <std::size_t N>
HWY_INLINE V halved_polynomial(V x, const float (&c)[N]) {
  const V square = hn::Mul(x, x);
  V last = constant(c[N - 1]), other = constant(c[N - 2]);
  for (std::size_t i = N - 2; i-- > 0;) {
    V& sum = (N - 1 - i) % 2 == 0 ? last : other;
    sum = hn::MulAdd(sum, square, constant(c[i]));
  }
  return N % 2 == 0 ? hn::MulAdd(last, x, other) : hn::MulAdd(other, x, last);
}

/// 2^-(x + shift) for x >= 0 with a sum below 126.
HWY_INLINE V inverse_power_of_two(V x, int shift = 0) {
  static constexpr float kFraction[] = {0.693147182F,   0.240226477F,   0.0555033237F,
                                        0.00961843692F, 0.00133988739F, 0.00015353362F};
  const V n = hn::Round(x), rest = hn::Sub(n, x);
  const V scale = power_of_two(hn::Sub(hn::Set(I32(), -shift), hn::ConvertTo(I32(), n)));
  return hn::MulAdd(scale, hn::Mul(rest, halved_polynomial(rest, kFraction)), scale);
}

/// x/2 (1 + erf(x / sqrt 2)). The normal distribution below -|x| is 2^-(1 + |x| P(|x|)), and 0 beyond the bound.
HWY_INLINE V gelu(V x) {
  static constexpr float kExponent[] = {1.15110517F,     0.45920819F,     0.0524961799F,   -0.00706342049F,
                                        0.000136936622F, 0.000186180143F, -3.93776754e-5F, 2.83491181e-6F};
  const V magnitude = hn::Abs(x), bound = constant(5.7F), near = hn::Min(magnitude, bound);
  const V tail = inverse_power_of_two(hn::Mul(near, halved_polynomial(near, kExponent)), 1);
  const V below = hn::IfThenZeroElse(hn::Gt(magnitude, bound), tail);
  return hn::Mul(x, hn::IfThenElse(hn::Lt(x, constant(0)), below, hn::Sub(constant(1), below)));
}

/// Its approximation by tanh: x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
HWY_INLINE V gelu_tanh(V x) {
  static constexpr float kLinear = 2.30220819F, kCubic = 0.102943240F;  // of 2u, over ln 2
  const V magnitude = hn::Abs(x), bound = constant(8);
  const V near = hn::Min(magnitude, bound);
  const V exponent = hn::Mul(near, hn::MulAdd(hn::Mul(near, near), constant(kCubic), constant(kLinear)));
  const V e = hn::IfThenZeroElse(hn::Gt(magnitude, bound), inverse_power_of_two(exponent));  // exp(-2 |u|)
  const V one = constant(1);
  return hn::Mul(x, hn::Div(hn::IfThenElse(hn::Lt(x, constant(0)), e, one), hn::Add(one, e)));
}

}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
