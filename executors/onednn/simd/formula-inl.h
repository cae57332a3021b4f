// Vectors of f32 as formulas see them, and the formulas on them, compiled once for every instruction set.
#if defined(HALFSTEP_SIMD_FORMULA_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFSTEP_SIMD_FORMULA_INL_H
#undef HALFSTEP_SIMD_FORMULA_INL_H
#else
#define HALFSTEP_SIMD_FORMULA_INL_H
#endif

#include <cmath>
#include <cstring>
#include <type_traits>

#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/gelu-inl.h"
#include "executors/onednn/simd/math-inl.h"
#include "ops/elementwise/formulas.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {

struct Mask {
  hn::Mask<F32> raw;

  friend HWY_INLINE Mask operator&(Mask a, Mask b) { return {hn::And(a.raw, b.raw)}; }
  friend HWY_INLINE Mask operator|(Mask a, Mask b) { return {hn::Or(a.raw, b.raw)}; }
  friend HWY_INLINE Mask operator^(Mask a, Mask b) { return {hn::Xor(a.raw, b.raw)}; }
};

/// One after the other, by the C library: for functions that are rarely a step's cost.
template <class F>
HWY_INLINE V each_lane(V a, V b, const F& f) {
  HWY_ALIGN float left[HWY_MAX_BYTES / sizeof(float)];
  HWY_ALIGN float right[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(a, F32(), left);
  hn::Store(b, F32(), right);
  for (std::int64_t i = 0; i < lanes(); ++i) left[i] = f(left[i], right[i]);
  return hn::Load(F32(), left);
}

struct Floats {
  V raw;

  HWY_INLINE Floats(V v) : raw(v) {}
  HWY_INLINE Floats(double literal) : raw(constant(static_cast<float>(literal))) {}

  friend HWY_INLINE Floats operator+(Floats a, Floats b) { return hn::Add(a.raw, b.raw); }
  friend HWY_INLINE Floats operator-(Floats a, Floats b) { return hn::Sub(a.raw, b.raw); }
  friend HWY_INLINE Floats operator*(Floats a, Floats b) { return hn::Mul(a.raw, b.raw); }
  friend HWY_INLINE Floats operator/(Floats a, Floats b) { return hn::Div(a.raw, b.raw); }
  friend HWY_INLINE Floats operator-(Floats x) { return hn::Neg(x.raw); }
  friend HWY_INLINE Mask operator==(Floats a, Floats b) { return {hn::Eq(a.raw, b.raw)}; }
  friend HWY_INLINE Mask operator!=(Floats a, Floats b) {
    return {hn::Not(hn::Eq(a.raw, b.raw))};
  }  // hn::Ne has no NaN
  friend HWY_INLINE Mask operator<(Floats a, Floats b) { return {hn::Lt(a.raw, b.raw)}; }
  friend HWY_INLINE Mask operator<=(Floats a, Floats b) { return {hn::Le(a.raw, b.raw)}; }
  friend HWY_INLINE Mask operator>(Floats a, Floats b) { return {hn::Gt(a.raw, b.raw)}; }
  friend HWY_INLINE Mask operator>=(Floats a, Floats b) { return {hn::Ge(a.raw, b.raw)}; }
  friend HWY_INLINE Mask is_nan(Floats x) { return {hn::IsNaN(x.raw)}; }
  friend HWY_INLINE Floats select(Mask m, Floats a, Floats b) { return hn::IfThenElse(m.raw, a.raw, b.raw); }
  friend HWY_INLINE Floats zero_where(Mask m, Floats x) { return hn::IfThenZeroElse(m.raw, x.raw); }
  friend HWY_INLINE Floats mul_add(Floats a, Floats b, Floats c) { return hn::MulAdd(a.raw, b.raw, c.raw); }

  friend HWY_INLINE Floats abs(Floats x) { return hn::Abs(x.raw); }
  friend HWY_INLINE Floats copysign(Floats x, Floats sign) { return hn::CopySign(x.raw, sign.raw); }
  friend HWY_INLINE Floats floor(Floats x) { return hn::Floor(x.raw); }
  friend HWY_INLINE Floats ceil(Floats x) { return hn::Ceil(x.raw); }
  friend HWY_INLINE Floats round(Floats x) { return hn::Round(x.raw); }
  friend HWY_INLINE Floats sqrt(Floats x) { return hn::Sqrt(x.raw); }
  friend HWY_INLINE Floats exp(Floats x) { return HWY_NAMESPACE::exp(x.raw); }
  friend HWY_INLINE Floats moderate_exp(Floats x) { return HWY_NAMESPACE::moderate_exp(x.raw); }
  friend HWY_INLINE Floats expm1(Floats x) {
    const V near = expm1_negative(hn::Min(x.raw, constant(1)));
    return hn::IfThenElse(hn::Gt(x.raw, constant(1)), hn::Sub(HWY_NAMESPACE::exp(x.raw), constant(1)),
                          hn::IfThenElse(hn::IsNaN(x.raw), x.raw, near));
  }
  friend HWY_INLINE Floats expm1_negative(Floats x) { return HWY_NAMESPACE::expm1_negative(x.raw); }
  friend HWY_INLINE Floats log(Floats x) { return HWY_NAMESPACE::log(x.raw); }
  friend HWY_INLINE Floats log1p_unit(Floats x) { return HWY_NAMESPACE::log1p_unit(x.raw); }
  friend HWY_INLINE Floats erf(Floats x) { return HWY_NAMESPACE::erf(x.raw); }
  friend HWY_INLINE Floats tanh(Floats x) { return HWY_NAMESPACE::tanh(x.raw); }
  friend HWY_INLINE Floats gelu(Floats x) { return HWY_NAMESPACE::gelu(x.raw); }
  friend HWY_INLINE Floats gelu_tanh(Floats x) { return HWY_NAMESPACE::gelu_tanh(x.raw); }
  friend HWY_INLINE Floats gelu_slope(Floats x) { return HWY_NAMESPACE::gelu_slope(x.raw); }
  friend HWY_INLINE Floats gelu_tanh_slope(Floats x) { return HWY_NAMESPACE::gelu_tanh_slope(x.raw); }
  // To full accuracy also where exp(-|x|) alone is subnormal.
  friend HWY_INLINE Floats times_sigmoid(Floats factor, Floats x) {
    return HWY_NAMESPACE::times_sigmoid(factor.raw, x.raw);
  }
  friend HWY_INLINE Floats pow(Floats a, Floats b) {
    if (hn::AllTrue(F32(), hn::Eq(b.raw, constant(2)))) return a * a;
    if (hn::AllTrue(F32(), hn::Eq(b.raw, constant(3)))) return a * a * a;
    return each_lane(a.raw, b.raw, [](float x, float y) { return std::pow(x, y); });
  }
  friend HWY_INLINE Floats fmod(Floats a, Floats b) {
    return each_lane(a.raw, b.raw, [](float x, float y) { return std::fmod(x, y); });
  }
#define HALFSTEP_SIMD_LANES(function)                                                      \
  friend HWY_INLINE Floats function(Floats x) {                                            \
    return each_lane(x.raw, x.raw, [](float lane, float) { return std::function(lane); }); \
  }
  HALFSTEP_SIMD_LANES(sin)
  HALFSTEP_SIMD_LANES(cos)
  HALFSTEP_SIMD_LANES(tan)
  HALFSTEP_SIMD_LANES(asin)
  HALFSTEP_SIMD_LANES(acos)
  HALFSTEP_SIMD_LANES(atan)
  HALFSTEP_SIMD_LANES(sinh)
  HALFSTEP_SIMD_LANES(cosh)
  HALFSTEP_SIMD_LANES(asinh)
  HALFSTEP_SIMD_LANES(acosh)
  HALFSTEP_SIMD_LANES(atanh)
#undef HALFSTEP_SIMD_LANES
};

namespace formulas {

using ops::FormulaParameter, ops::FormulaRow;
using ops::kGeluCubic, ops::kGeluScale, ops::kInfinite, ops::kInverseSqrt2, ops::kNormalDensity;

#define HALFSTEP_FORMULA HWY_INLINE static
#include "ops/elementwise/formulas-inl.h"
#undef HALFSTEP_FORMULA

}  // namespace formulas

/// F of operands, and of as many parameters as it has.
template <class F, class... X>
HWY_INLINE auto apply(ElementwiseParams params, X... x) {
  if constexpr (F::row.count_parameters() == 0)
    return F::of(x...);
  else if constexpr (F::row.count_parameters() == 1)
    return F::of(x..., Floats(constant(params.alpha)));
  else
    return F::of(x..., Floats(constant(params.alpha)), Floats(constant(params.beta)));
}

/// Whether F is a formula of so many operands.
template <class F, std::size_t operands>
constexpr bool is_of_floats() {
  if constexpr (F::row.on_truth)
    return false;
  else
    return ops::count_arguments(&F::template of<Floats>) == operands + F::row.count_parameters();
}

template <class R, class... A>
R result_of(R (*)(A...));
/// The type of F's results of elements of type T.
template <class F, class T>
using Result = std::conditional_t<std::is_same_v<decltype(result_of(&F::template of<Floats>)), Mask>, bool, T>;

HWY_INLINE void store(Mask m, bool* p) {
  const hn::Rebind<std::uint8_t, F32> d;
  const auto ones = hn::IfThenElseZero(hn::RebindMask(U32(), m.raw), hn::Set(U32(), 1));
  hn::StoreU(hn::TruncateTo(d, ones), d, reinterpret_cast<std::uint8_t*>(p));
}
HWY_INLINE void write(Mask m, bool* p, std::true_type) { store(m, p); }
HWY_INLINE void write(Mask m, bool* p, std::int64_t count) {
  bool values[HWY_MAX_BYTES / sizeof(float)];
  store(m, values);
  std::memcpy(p, values, static_cast<std::size_t>(count));
}
template <class T, class Count>
HWY_INLINE void write(Floats x, T* p, Count count) {
  write(x.raw, p, count);
}

/// Elements that kernels in half types hold in f32 at a time.
inline constexpr std::int64_t kTile = 512;

}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
