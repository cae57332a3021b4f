// Binary elementwise kernels: arrays, and either operand a scalar.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/binary.cpp"
#include <cmath>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/kernels.h"
#include "executors/onednn/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

using Params = ElementwiseParams;

struct Add {
  V operator()(V a, V b, Params) const { return hn::Add(a, b); }
};
struct Sub {
  V operator()(V a, V b, Params) const { return hn::Sub(a, b); }
};
struct Mul {
  V operator()(V a, V b, Params) const { return hn::Mul(a, b); }
};
struct Div {
  V operator()(V a, V b, Params) const { return hn::Div(a, b); }
};
struct Min {
  V operator()(V a, V b, Params) const { return hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::Lt(a, b)), a, b); }
};
struct Max {
  V operator()(V a, V b, Params) const { return hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::Gt(a, b)), a, b); }
};
struct Pow {
  V operator()(V a, V b, Params) const {
    const F32 d;
    if (hn::AllTrue(d, hn::Eq(b, constant(2)))) return hn::Mul(a, a);
    if (hn::AllTrue(d, hn::Eq(b, constant(3)))) return hn::Mul(hn::Mul(a, a), a);
    HWY_ALIGN float bases[HWY_MAX_BYTES / sizeof(float)];
    HWY_ALIGN float exponents[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(a, d, bases);
    hn::Store(b, d, exponents);
    for (std::int64_t i = 0; i < lanes(); ++i) bases[i] = std::pow(bases[i], exponents[i]);
    return hn::Load(d, bases);
  }
};
struct ReluGrad {
  V operator()(V dy, V y, Params) const { return hn::IfThenZeroElse(hn::Le(y, constant(0)), dy); }
};
struct ClipGrad {
  V operator()(V dy, V x, Params p) const {
    const auto outside = hn::Or(hn::Lt(x, constant(p.alpha)), hn::Gt(x, constant(p.beta)));
    return hn::IfThenZeroElse(outside, dy);
  }
};
// The limits 0 and 1 where x is infinite, else the slope.
V with_limits(V x, V slope) {
  const V limit = hn::IfThenElseZero(hn::Gt(x, constant(0)), constant(1));
  return hn::IfThenElse(hn::Eq(hn::Abs(x), constant(kInfinity)), limit, slope);
}
// cdf + x pdf; beyond the bounds x pdf is as good as 0.
struct GeluGrad {
  V operator()(V dy, V x, Params) const {
    const V near = clamp(x, constant(-13), constant(13));
    const V half = constant(0.5F), cdf = hn::MulAdd(half, erf(hn::Mul(x, constant(0.70710678F))), half);
    const V pdf = hn::Mul(constant(0.39894228F), moderate_exp(hn::Mul(hn::Mul(near, near), constant(-0.5F))));
    return hn::Mul(dy, with_limits(x, hn::MulAdd(near, pdf, cdf)));
  }
};
// s + x s (1 - s) u' where s = sigmoid(u), u = 2 sqrt(2/pi) (x + 0.044715 x^3); beyond the bounds s is as good as 0
// or 1.
struct GeluTanhGrad {
  V operator()(V dy, V x, Params) const {
    const V near = clamp(x, constant(-10), constant(10));
    const V one = constant(1), scaled = hn::Mul(near, constant(kTwiceGeluScale)), square = hn::Mul(near, near);
    const V u = hn::Mul(scaled, hn::MulAdd(square, constant(kGeluCubic), one));
    const V e = moderate_exp(hn::Neg(u)), s = hn::Div(one, hn::Add(one, e));
    const V along = hn::Mul(scaled, hn::MulAdd(square, constant(3 * kGeluCubic), one));
    return hn::Mul(dy, with_limits(x, hn::MulAdd(hn::Mul(along, hn::Mul(e, s)), s, s)));
  }
};

template <class Op, class T>
void array_array(const void* a, const void* b, void* y, std::int64_t n, Params params) {
  const T* left = static_cast<const T*>(a);
  const T* right = static_cast<const T*>(b);
  T* to = static_cast<T*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) {
    write(Op()(read(left + i, count), read(right + i, count), params), to + i, count);
  });
}

template <class Op, class T>
void scalar_array(const void* a, const void* b, void* y, std::int64_t n, Params params) {
  const V left = constant(static_cast<float>(*static_cast<const T*>(a)));
  const T* right = static_cast<const T*>(b);
  T* to = static_cast<T*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) { write(Op()(left, read(right + i, count), params), to + i, count); });
}

template <class Op, class T>
void array_scalar(const void* a, const void* b, void* y, std::int64_t n, Params params) {
  const T* left = static_cast<const T*>(a);
  const V right = constant(static_cast<float>(*static_cast<const T*>(b)));
  T* to = static_cast<T*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) { write(Op()(read(left + i, count), right, params), to + i, count); });
}

template <class Op, class T>
constexpr BinaryKernel::Rows rows() {
  return {&array_array<Op, T>, &scalar_array<Op, T>, &array_scalar<Op, T>};
}

template <class T>
BinaryKernel::Rows find_typed(BinaryOp op) {
  switch (op) {
    case BinaryOp::add:
      return rows<Add, T>();
    case BinaryOp::sub:
      return rows<Sub, T>();
    case BinaryOp::mul:
      return rows<Mul, T>();
    case BinaryOp::div:
      return rows<Div, T>();
    case BinaryOp::min:
      return rows<Min, T>();
    case BinaryOp::max:
      return rows<Max, T>();
    case BinaryOp::pow:
      return rows<Pow, T>();
    case BinaryOp::relu_grad:
      return rows<ReluGrad, T>();
    case BinaryOp::clip_grad:
      return rows<ClipGrad, T>();
    case BinaryOp::gelu_grad:
      return rows<GeluGrad, T>();
    case BinaryOp::gelu_tanh_grad:
      return rows<GeluTanhGrad, T>();
  }
  return {};
}

BinaryKernel::Rows find(BinaryOp op, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return find_typed<float>(op);
    case DType::f16:
      return find_typed<f16>(op);
    case DType::bf16:
      return find_typed<bf16>(op);
    default:
      return {};
  }
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
BinaryKernel::Rows find_binary_rows(BinaryOp op, DType dtype) { return HWY_DYNAMIC_DISPATCH(find)(op, dtype); }
}  // namespace halfstep::simd
#endif
