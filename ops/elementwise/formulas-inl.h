// The formula of every elementwise operator, once. A formula is a function over values of any kind that has the
// instructions: arithmetic and comparisons by C++'s operators, select(mask, then, else), and functions by their C names.
// Kinds of values: single numbers (ops/elementwise/formula_scalar.h: the reference, integers, CUDA), vectors
// (executors/onednn/simd/formula-inl.h), and text (ops/elementwise/formula_text.cpp).
//
// A formula has a row, which says what operator it is of, and `of`, whose arguments are the operands in their order and
// then the row's parameters. Its name goes into the list at the end. A comparison gives a mask, and NaN is in none but
// that of !=.
//
// Several instruction sets include this file, each in a namespace of its own, with HALFSTEP_FORMULA defined as what
// stands before a function's type. Hence no guard, no namespace and no includes; ops/elementwise/formulas.h is the
// header to include.

// What formulas share.

template <class V>
HALFSTEP_FORMULA V zero_where(decltype(V(0) < V(0)) mask, V x) {
  return select(mask, V(0), x);
}
/// x raised to `low`, then lowered to `high`: the upper bound wins where they cross. A NaN stays one.
template <class V>
HALFSTEP_FORMULA V clamp(V x, V low, V high) {
  const V raised = select(x < low, low, x);
  return select(raised > high, high, raised);
}
/// factor / (1 + exp(-x))
template <class V>
HALFSTEP_FORMULA V times_sigmoid(V factor, V x) {
  const V e = exp(-abs(x));  // in (0, 1]: no overflow
  return select(x < 0, factor * e, factor) / (1 + e);
}
/// log(1 + exp(x))
template <class V>
HALFSTEP_FORMULA V softplus(V x) {
  return zero_where(x < 0, x) + log1p_unit(exp(-abs(x)));
}

// Signs and rounding.

struct Neg {
  static constexpr FormulaRow row{.op = "Neg", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return -x;
  }
};
struct Abs {
  static constexpr FormulaRow row{.op = "Abs", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return abs(x);
  }
};
struct Sign {
  static constexpr FormulaRow row{.op = "Sign", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return select(x < 0, -1, select(x > 0, 1, x));  // zeros and NaN stay
  }
};
struct Floor {
  static constexpr FormulaRow row{.op = "Floor"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return floor(x);
  }
};
struct Ceil {
  static constexpr FormulaRow row{.op = "Ceil"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return ceil(x);
  }
};
struct Round {  // ties to even
  static constexpr FormulaRow row{.op = "Round"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return round(x);
  }
};

// Elementary functions.

struct Reciprocal {
  static constexpr FormulaRow row{.op = "Reciprocal"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return 1 / x;
  }
};
/// A formula that is one instruction.
#define HALFSTEP_INSTRUCTION(Name, instruction)    \
  struct Name {                                    \
    static constexpr FormulaRow row{.op = #Name};  \
    template <class V>                             \
    HALFSTEP_FORMULA V of(V x) {                   \
      return instruction(x);                       \
    }                                              \
  };
HALFSTEP_INSTRUCTION(Sqrt, sqrt)
HALFSTEP_INSTRUCTION(Exp, exp)
HALFSTEP_INSTRUCTION(Log, log)
HALFSTEP_INSTRUCTION(Erf, erf)
HALFSTEP_INSTRUCTION(Tanh, tanh)
HALFSTEP_INSTRUCTION(Sin, sin)
HALFSTEP_INSTRUCTION(Cos, cos)
HALFSTEP_INSTRUCTION(Tan, tan)
HALFSTEP_INSTRUCTION(Asin, asin)
HALFSTEP_INSTRUCTION(Acos, acos)
HALFSTEP_INSTRUCTION(Atan, atan)
HALFSTEP_INSTRUCTION(Sinh, sinh)
HALFSTEP_INSTRUCTION(Cosh, cosh)
HALFSTEP_INSTRUCTION(Asinh, asinh)
HALFSTEP_INSTRUCTION(Acosh, acosh)
HALFSTEP_INSTRUCTION(Atanh, atanh)
#undef HALFSTEP_INSTRUCTION

// Activations.

struct Relu {
  static constexpr FormulaRow row{.op = "Relu", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return zero_where(x < 0, x);
  }
};
struct LeakyRelu {
  static constexpr FormulaRow row{.op = "LeakyRelu", .parameters = {{"alpha", 0.01F}}, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V alpha) {
    return select(x < 0, alpha * x, x);
  }
};
struct PRelu {
  static constexpr FormulaRow row{.op = "PRelu", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V slope) {
    return select(x < 0, x * slope, x);
  }
};
struct Elu {
  static constexpr FormulaRow row{.op = "Elu", .parameters = {{"alpha", 1}}};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V alpha) {
    return select(x < 0, alpha * expm1_negative(x), x);
  }
};
struct Selu {
  static constexpr FormulaRow row{.op = "Selu", .parameters = {{"alpha", 1.67326319F}, {"gamma", 1.05070102F}}};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V alpha, V gamma) {
    return gamma * select(x > 0, x, alpha * expm1_negative(x));
  }
};
struct Celu {
  static constexpr FormulaRow row{.op = "Celu", .parameters = {{"alpha", 1}}};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V alpha) {
    return select(x > 0, x, alpha * expm1(x / alpha));
  }
};
struct ThresholdedRelu {
  static constexpr FormulaRow row{.op = "ThresholdedRelu", .parameters = {{"alpha", 1}}};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V alpha) {
    return zero_where(x <= alpha, x);
  }
};
struct Shrink {
  static constexpr FormulaRow row{.op = "Shrink", .parameters = {{"lambd", 0.5F}, {"bias", 0}}};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V lambd, V bias) {
    const V outside = select(x < -lambd, x + bias, x - bias);
    return zero_where((x >= -lambd) & (x <= lambd), outside);
  }
};
struct Clip {
  static constexpr FormulaRow row{
      .op = "Clip", .parameters = {FormulaParameter::low(1), FormulaParameter::high(2)}, .on_integers = true,
      .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V min, V max) {
    return clamp(x, min, max);
  }
};
struct HardSigmoid {
  static constexpr FormulaRow row{.op = "HardSigmoid", .parameters = {{"alpha", 0.2F}, {"beta", 0.5F}}};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V alpha, V beta) {
    return clamp<V>(mul_add(x, alpha, beta), 0, 1);
  }
};
struct HardSwish {
  static constexpr FormulaRow row{.op = "HardSwish"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return x * clamp<V>(mul_add(x, 1.0 / 6, 0.5), 0, 1);
  }
};
struct Sigmoid {
  static constexpr FormulaRow row{.op = "Sigmoid"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return times_sigmoid(V(1), x);
  }
};
struct Swish {
  static constexpr FormulaRow row{.op = "Swish", .parameters = {{"alpha", 1}}};
  template <class V>
  HALFSTEP_FORMULA V of(V x, V alpha) {
    return times_sigmoid(x, alpha * x);
  }
};
struct Softplus {
  static constexpr FormulaRow row{.op = "Softplus"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return softplus(x);
  }
};
struct Softsign {
  static constexpr FormulaRow row{.op = "Softsign"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return x / (1 + abs(x));
  }
};
struct Mish {
  static constexpr FormulaRow row{.op = "Mish"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return x * tanh(softplus(x));
  }
};
/// x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
template <class V>
HALFSTEP_FORMULA V gelu_tanh(V x) {
  return times_sigmoid(x, mul_add(x * x * x, kGeluCubic, x) * (2 * kGeluScale));
}
struct GeluTanh {
  static constexpr FormulaRow row{.op = "Gelu", .variant = {"approximate", "tanh"}};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return gelu_tanh(x);
  }
};
/// x/2 (1 + erf(x / sqrt 2))
template <class V>
HALFSTEP_FORMULA V gelu(V x) {
  const V half = x * 0.5;
  return mul_add(half, erf(x * kInverseSqrt2), half);
}
struct Gelu {
  static constexpr FormulaRow row{.op = "Gelu"};
  template <class V>
  HALFSTEP_FORMULA V of(V x) {
    return gelu(x);
  }
};

// Gradients.

struct ReluGrad {
  static constexpr FormulaRow row{.op = "ReluGrad", .is_own = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V dy, V y) {
    return zero_where(y <= 0, dy);
  }
};
struct ClipGrad {
  static constexpr FormulaRow row{.op = "ClipGrad", .is_own = true,
                                  .parameters = {FormulaParameter::low(2), FormulaParameter::high(3)},
                                  .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V dy, V x, V min, V max) {
    return zero_where((x < min) | (x > max), dy);
  }
};
/// The limits 0 and 1 where x is infinite, else the slope.
template <class V>
HALFSTEP_FORMULA V with_limits(V x, V slope) {
  return select(abs(x) == kInfinite, select(x > 0, V(1), V(0)), slope);
}
/// s + x s (1 - s) 2u' where s = sigmoid(2u); beyond the bounds s is as good as 0 or 1
template <class V>
HALFSTEP_FORMULA V gelu_tanh_slope(V x) {
  const V near = clamp<V>(x, -10, 10), scaled = near * (2 * kGeluScale), square = near * near;
  const V e = moderate_exp(-(scaled * mul_add(square, kGeluCubic, 1))), s = 1 / (1 + e);
  const V along = scaled * mul_add(square, 3 * kGeluCubic, 1);
  return with_limits(x, mul_add(along * (e * s), s, s));
}
struct GeluTanhGrad {
  static constexpr FormulaRow row{.op = "GeluGrad", .is_own = true, .variant = {"approximate", "tanh"}};
  template <class V>
  HALFSTEP_FORMULA V of(V dy, V x) {
    return dy * gelu_tanh_slope(x);
  }
};
/// cdf + x pdf; beyond the bounds x pdf is as good as 0
template <class V>
HALFSTEP_FORMULA V gelu_slope(V x) {
  const V near = clamp<V>(x, -13, 13);
  const V cdf = mul_add(0.5, erf(x * kInverseSqrt2), 0.5);
  const V pdf = kNormalDensity * moderate_exp(near * near * -0.5);
  return with_limits(x, mul_add(near, pdf, cdf));
}
struct GeluGrad {
  static constexpr FormulaRow row{.op = "GeluGrad", .is_own = true};
  template <class V>
  HALFSTEP_FORMULA V of(V dy, V x) {
    return dy * gelu_slope(x);
  }
};

// Arithmetic on two operands.

struct Add {
  static constexpr FormulaRow row{.op = "Add", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return a + b;
  }
};
struct Sub {
  static constexpr FormulaRow row{.op = "Sub", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return a - b;
  }
};
struct Mul {
  static constexpr FormulaRow row{.op = "Mul", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return a * b;
  }
};
struct Div {
  static constexpr FormulaRow row{.op = "Div", .on_integers = true, .divides = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return a / b;
  }
};
struct Min {  // NaN wins, as in NumPy and PyTorch
  static constexpr FormulaRow row{.op = "Min", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return select(is_nan(a) | (a < b), a, b);
  }
};
struct Max {
  static constexpr FormulaRow row{.op = "Max", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return select(is_nan(a) | (a > b), a, b);
  }
};
struct Pow {
  static constexpr FormulaRow row{.op = "Pow", .on_integers = true, .divides = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return pow(a, b);
  }
};
struct Fmod {  // the remainder with the sign of the dividend
  static constexpr FormulaRow row{.op = "Mod", .variant = {"fmod", "1"}, .on_integers = true, .divides = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    return fmod(a, b);
  }
};
struct Mod {  // the remainder with the sign of the divisor
  static constexpr FormulaRow row{.op = "Mod", .on_integers = true, .divides = true};
  template <class V>
  HALFSTEP_FORMULA V of(V a, V b) {
    const V r = fmod(a, b);
    return select(r == 0, copysign(r, b), select((r < 0) ^ (b < 0), r + b, r));
  }
};

// Comparisons give truth.

struct Equal {
  static constexpr FormulaRow row{.op = "Equal", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA auto of(V a, V b) {
    return a == b;
  }
};
struct Less {
  static constexpr FormulaRow row{.op = "Less", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA auto of(V a, V b) {
    return a < b;
  }
};
struct LessOrEqual {
  static constexpr FormulaRow row{.op = "LessOrEqual", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA auto of(V a, V b) {
    return a <= b;
  }
};
struct Greater {
  static constexpr FormulaRow row{.op = "Greater", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA auto of(V a, V b) {
    return a > b;
  }
};
struct GreaterOrEqual {
  static constexpr FormulaRow row{.op = "GreaterOrEqual", .on_integers = true, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA auto of(V a, V b) {
    return a >= b;
  }
};
struct IsNaN {
  static constexpr FormulaRow row{.op = "IsNaN", .is_light = true};
  template <class V>
  HALFSTEP_FORMULA auto of(V x) {
    return is_nan(x);
  }
};
struct IsInf {
  static constexpr FormulaRow row{
      .op = "IsInf", .parameters = {{"detect_negative", 1}, {"detect_positive", 1}}, .is_light = true};
  template <class V>
  HALFSTEP_FORMULA auto of(V x, V negative, V positive) {
    return ((x == -kInfinite) & (negative != 0)) | ((x == kInfinite) & (positive != 0));
  }
};

// Logic takes truth, and gives it.

struct And {
  static constexpr FormulaRow row{.op = "And", .on_truth = true};
  template <class M>
  HALFSTEP_FORMULA M of(M a, M b) {
    return a & b;
  }
};
struct Or {
  static constexpr FormulaRow row{.op = "Or", .on_truth = true};
  template <class M>
  HALFSTEP_FORMULA M of(M a, M b) {
    return a | b;
  }
};
struct Xor {
  static constexpr FormulaRow row{.op = "Xor", .on_truth = true};
  template <class M>
  HALFSTEP_FORMULA M of(M a, M b) {
    return a ^ b;
  }
};
struct Not {
  static constexpr FormulaRow row{.op = "Not", .on_truth = true};
  template <class M>
  HALFSTEP_FORMULA M of(M a) {
    return !a;
  }
};

#ifndef HALFSTEP_FORMULAS
/// X(name) for every formula. Of an operator's variants the plain one comes last.
#define HALFSTEP_FORMULAS(X)                                                                                    \
  X(Neg) X(Abs) X(Sign) X(Floor) X(Ceil) X(Round)                                                               \
  X(Reciprocal) X(Sqrt) X(Exp) X(Log) X(Erf) X(Tanh) X(Sin) X(Cos) X(Tan) X(Asin) X(Acos) X(Atan) X(Sinh) X(Cosh) \
  X(Asinh) X(Acosh) X(Atanh)                                                                                    \
  X(Relu) X(LeakyRelu) X(PRelu) X(Elu) X(Selu) X(Celu) X(ThresholdedRelu) X(Shrink) X(Clip) X(HardSigmoid)      \
  X(HardSwish) X(Sigmoid) X(Swish) X(Softplus) X(Softsign) X(Mish) X(GeluTanh) X(Gelu)                          \
  X(ReluGrad) X(ClipGrad) X(GeluTanhGrad) X(GeluGrad)                                                           \
  X(Add) X(Sub) X(Mul) X(Div) X(Min) X(Max) X(Pow) X(Fmod) X(Mod)                                               \
  X(Equal) X(Less) X(LessOrEqual) X(Greater) X(GreaterOrEqual) X(IsNaN) X(IsInf)                                \
  X(And) X(Or) X(Xor) X(Not)
#endif
