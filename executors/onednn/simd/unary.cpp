// Unary elementwise kernels.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/unary.cpp"
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/kernels.h"
#include "executors/onednn/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

using Params = ElementwiseParams;

struct Identity {
  V operator()(V x, Params) const { return x; }
};
struct Relu {
  V operator()(V x, Params) const { return relu(x); }
};
struct LeakyRelu {
  V operator()(V x, Params p) const { return hn::IfThenElse(hn::Lt(x, constant(0)), hn::Mul(x, constant(p.alpha)), x); }
};
struct Elu {
  V operator()(V x, Params p) const {
    return hn::IfThenElse(hn::Lt(x, constant(0)), hn::Mul(constant(p.alpha), expm1_negative(x)), x);
  }
};
struct Clip {
  V operator()(V x, Params p) const { return clamp(x, constant(p.alpha), constant(p.beta)); }
};
struct Neg {
  V operator()(V x, Params) const { return hn::Neg(x); }
};
struct Abs {
  V operator()(V x, Params) const { return hn::Abs(x); }
};
struct Sign {
  V operator()(V x, Params) const {
    const V zero = constant(0);
    const V one = hn::IfThenElse(hn::Gt(x, zero), constant(1), x);  // leaves 0 and NaN as they are
    return hn::IfThenElse(hn::Lt(x, zero), constant(-1), one);
  }
};
struct Reciprocal {
  V operator()(V x, Params) const { return hn::Div(constant(1), x); }
};
struct Sqrt {
  V operator()(V x, Params) const { return hn::Sqrt(x); }
};
struct Exp {
  V operator()(V x, Params) const { return exp(x); }
};
struct Log {
  V operator()(V x, Params) const { return log(x); }
};
struct Erf {
  V operator()(V x, Params) const { return erf(x); }
};
struct Sigmoid {
  V operator()(V x, Params) const { return sigmoid(x); }
};
V unit_clamp(V x) { return clamp(x, constant(0), constant(1)); }
struct HardSigmoid {
  V operator()(V x, Params p) const { return unit_clamp(hn::MulAdd(x, constant(p.alpha), constant(p.beta))); }
};
struct Tanh {
  V operator()(V x, Params) const { return tanh(x); }
};
struct Softplus {
  V operator()(V x, Params) const {  // max(x, 0) + log(1 + exp(-|x|))
    const V positive = relu(x);
    return hn::Add(positive, log1p_unit(exp(hn::Neg(hn::Abs(x)))));
  }
};
struct Silu {
  V operator()(V x, Params) const { return times_sigmoid(x, x); }
};
struct HardSwish {
  V operator()(V x, Params) const {
    return hn::Mul(x, unit_clamp(hn::MulAdd(x, constant(1.0F / 6.0F), constant(0.5F))));
  }
};
struct Gelu {
  V operator()(V x, Params) const {
    const V half = hn::Mul(x, constant(0.5F));
    return hn::MulAdd(half, erf(hn::Mul(x, constant(0.70710678F))), half);
  }
};
struct GeluTanh {
  V operator()(V x, Params) const {  // x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
    const V cubic = hn::MulAdd(hn::Mul(hn::Mul(x, x), x), constant(kGeluCubic), x);
    return times_sigmoid(x, hn::Mul(cubic, constant(kTwiceGeluScale)));
  }
};

template <class Op, class T>
void range(const void* x, void* y, std::int64_t n, Params params) {
  map_array<T, T>(x, y, n, [params](V v) { return Op()(v, params); });
}

template <class T>
UnaryFn find_typed(UnaryOp op) {
  switch (op) {
    case UnaryOp::identity:
      return &range<Identity, T>;
    case UnaryOp::relu:
      return &range<Relu, T>;
    case UnaryOp::leaky_relu:
      return &range<LeakyRelu, T>;
    case UnaryOp::elu:
      return &range<Elu, T>;
    case UnaryOp::clip:
      return &range<Clip, T>;
    case UnaryOp::neg:
      return &range<Neg, T>;
    case UnaryOp::abs:
      return &range<Abs, T>;
    case UnaryOp::sign:
      return &range<Sign, T>;
    case UnaryOp::reciprocal:
      return &range<Reciprocal, T>;
    case UnaryOp::sqrt:
      return &range<Sqrt, T>;
    case UnaryOp::exp:
      return &range<Exp, T>;
    case UnaryOp::log:
      return &range<Log, T>;
    case UnaryOp::erf:
      return &range<Erf, T>;
    case UnaryOp::sigmoid:
      return &range<Sigmoid, T>;
    case UnaryOp::hard_sigmoid:
      return &range<HardSigmoid, T>;
    case UnaryOp::tanh:
      return &range<Tanh, T>;
    case UnaryOp::softplus:
      return &range<Softplus, T>;
    case UnaryOp::silu:
      return &range<Silu, T>;
    case UnaryOp::hard_swish:
      return &range<HardSwish, T>;
    case UnaryOp::gelu:
      return &range<Gelu, T>;
    case UnaryOp::gelu_tanh:
      return &range<GeluTanh, T>;
  }
  return nullptr;
}

UnaryFn find(UnaryOp op, DType dtype) {
  return by_type(dtype, [op]<class T>() { return find_typed<T>(op); });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
UnaryFn find_unary_range(UnaryOp op, DType dtype) { return HWY_DYNAMIC_DISPATCH(find)(op, dtype); }
}  // namespace halfstep::simd
#endif
