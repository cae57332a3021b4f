// Arithmetic and selection on two or more operands, element by element with broadcasting.
#include <functional>

#include "ops/elementwise/chain.h"
#include "ops/elementwise/formula.h"
#include "ops/families.h"
#include "ops/family_parts.h"
#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include <halfstep/ops/gradient_util.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

/// Folds all inputs with F in the type W, then maps the result with `finish`.
template <class W, class F, class G>
void fold(KernelCall& call, F f, G finish) {
  Shape shape = call.in[0].shape();
  for (const Tensor& x : call.in) shape = broadcast(shape, x.shape());
  std::vector<W> y(static_cast<std::size_t>(shape.count()));
  for (std::size_t n = 0; n < call.in.size(); ++n) {
    const std::vector<W> x = load<W>(call.in[n]);
    const BroadcastOffsets offset(call.in[n].shape(), shape);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const W value = x[offset(static_cast<std::int64_t>(i))];
      y[i] = n == 0 ? value : f(y[i], value);
    }
  }
  for (W& value : y) value = finish(value);
  store(ensure_out(call, 0, call.in[0].dtype(), shape), std::span<const W>(y));
}

void sum(KernelCall& call) { fold<double>(call, std::plus<>(), std::identity()); }
void mean(KernelCall& call) {
  const auto n = static_cast<double>(call.in.size());
  fold<double>(call, std::plus<>(), [n](double x) { return x / n; });
}

void where(KernelCall& call) {
  const Tensor &condition = call.in[0], &x = call.in[1], &y = call.in[2];
  const Shape shape = broadcast(condition.shape(), broadcast(x.shape(), y.shape()));
  const BroadcastOffsets c_offset(condition.shape(), shape), x_offset(x.shape(), shape), y_offset(y.shape(), shape);
  Tensor& out = ensure_out(call, 0, x.dtype(), shape);
  visit_storage(x.dtype(), [&]<class S>() {
    const bool* c = condition.data<bool>();
    const S *xs = x.data<S>(), *ys = y.data<S>();
    S* to = out.data<S>();
    for (std::int64_t i = 0; i < shape.count(); ++i) to[i] = c[c_offset(i)] ? xs[x_offset(i)] : ys[y_offset(i)];
  });
}

Gradients add_gradient(GradientContext& g) { return {g.dy(), g.dy()}; }
Gradients sub_gradient(GradientContext& g) { return {g.dy(), g.wants(1) ? -g.dy() : Expr()}; }
Gradients mul_gradient(GradientContext& g) {
  return {g.wants(0) ? g.dy() * g.in(1) : Expr(), g.wants(1) ? g.dy() * g.in(0) : Expr()};
}
Gradients div_gradient(GradientContext& g) {
  const Expr da = g.dy() / g.in(1);
  return {da, g.wants(1) ? -(da * g.out(0)) : Expr()};
}

/// The value of input i when it is a constant with one element.
const Tensor* constant_scalar(const GradientContext& g, std::size_t i) {
  const Value& value = g.b.graph()[g.node.input(i)];
  return value.is_constant() && value.constant.count() == 1 ? &value.constant : nullptr;
}

Expr pow_base_gradient(GradientContext& g) {
  const Expr x = g.in(0);
  if (const Tensor* exponent = constant_scalar(g, 1)) {
    const double e = to_doubles(*exponent)[0];
    if (e == 0) return {};
    if (e == 1) return g.dy();
    if (e == 2) return g.dy() * (x * 2);
    return g.dy() * (g.b.op("Pow", {x, g.b.scalar(e - 1, x.dtype())}) * e);
  }
  const Expr e = g.b.cast(g.in(1), x.dtype());
  const Expr slope = g.b.op("Pow", {x, e - 1}) * e;
  return g.dy() * select(g.b.op("Equal", {e, zero_like(e)}), zero_like(x), slope);
}

Gradients pow_gradient(GradientContext& g) {
  Gradients result(2);
  const Expr x = g.in(0), e = g.in(1);
  if (!is_float(x.dtype())) return {};
  if (g.wants(0)) result[0] = pow_base_gradient(g);
  if (g.wants(1) && is_float(e.dtype())) {
    const Expr is_zero =
        g.b.op("And", {g.b.op("Equal", {x, zero_like(x)}), g.b.op("GreaterOrEqual", {e, zero_like(e)})});
    const Expr slope = g.out(0) * g.b.op("Log", {x});
    result[1] = g.b.cast(g.dy() * select(is_zero, zero_like(x), slope), e.dtype());
  }
  return result;
}

Gradients mod_gradient(GradientContext& g) {
  if (!g.wants(1)) return {g.dy()};
  const Expr q = g.in(0) / g.in(1);
  Expr whole = g.b.op("Floor", {q});
  if (g.node.attributes.get_int("fmod", 0))
    whole = select(g.b.op("Less", {q, zero_like(q)}), g.b.op("Ceil", {q}), whole);
  return {g.dy(), -(g.dy() * whole)};
}

Gradients sum_gradient(GradientContext& g) { return Gradients(g.node.inputs.size(), g.dy()); }
Gradients mean_gradient(GradientContext& g) {
  const auto n = static_cast<double>(g.node.inputs.size());
  return Gradients(g.node.inputs.size(), g.dy() / n);
}

Gradients extremum_gradient(GradientContext& g) {
  if (g.node.inputs.size() == 1) return {g.dy()};
  Gradients result;
  Expr ties;
  for (std::size_t i = 0; i < g.node.inputs.size(); ++i) {
    result.push_back(g.b.cast(g.b.op("Equal", {g.in(i), g.out(0)}), g.out(0).dtype()));
    ties = ties ? ties + result[i] : result[i];
  }
  const Expr share = g.dy() / ties;
  for (Expr& mask : result) mask = share * mask;
  return result;
}

Gradients where_gradient(GradientContext& g) {
  const Expr none = zero_like(g.dy());
  return {Expr(), g.wants(1) ? select(g.in(0), g.dy(), none) : Expr(),
          g.wants(2) ? select(g.in(0), none, g.dy()) : Expr()};
}

Gradients prelu_gradient(GradientContext& g) {
  const Expr x = g.in(0), slope = g.in(1);
  const Expr positive = g.b.op("Greater", {x, zero_like(x)});
  return {select(positive, g.dy(), g.dy() * slope), g.wants(1) ? select(positive, zero_like(x), g.dy() * x) : Expr()};
}

constexpr std::string_view kTieNote = "where several operands are the extremum the gradient is split evenly; NaN wins";

std::vector<OpDef> arithmetic_rows() {
  using enum PrecisionClass;
  constexpr OpTraits kBroadcast{.elementwise = Elementwise::broadcast};
  return {
      formula_row("Add", follow,
                  {.elementwise = Elementwise::broadcast,
                   .arithmetic = Arithmetic::sum,
                   .keeps_integers = true,
                   .magnitude = magnitude::sum},
                  add_gradient,
                  {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Add(a, b) }"},
                   {"(float[2,3] a, float[3] b) => (float[2,3] y) { y = Add(a, b) }"},
                   {"(float[2,1,3] a, float[4,1] b) => (float[2,4,3] y) { y = Add(a, b) }"},
                   {"(float a, float[3] b) => (float[3] y) { y = Add(a, b) }"},
                   {"(float[0,3] a, float[1] b) => (float[0,3] y) { y = Add(a, b) }"},
                   {"() => (int8[2] y) <int8[2] a = {100, -3}, int8[2] b = {100, 5}> { y = Add(a, b) }"}}),
      formula_row("Sub", follow,
                  {.elementwise = Elementwise::broadcast,
                   .arithmetic = Arithmetic::sum,
                   .keeps_integers = true,
                   .magnitude = magnitude::sum},
                  sub_gradient,
                  {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Sub(a, b) }"},
                   {"(float[2,1] a, float[3] b) => (float[2,3] y) { y = Sub(a, b) }"},
                   {"(float[3] a) => (float[3] y) { y = Sub(a, a) }"},
                   {"() => (uint8[2] y) <uint8[2] a = {100, 3}, uint8[2] b = {1, 5}> { y = Sub(a, b) }"}}),
      formula_row("Mul", follow,
                  {.elementwise = Elementwise::broadcast,
                   .arithmetic = Arithmetic::product,
                   .keeps_integers = true,
                   .magnitude = magnitude::product},
                  mul_gradient,
                  {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Mul(a, b) }"},
                   {"(float[2,1] a, float[3] b) => (float[2,3] y) { y = Mul(a, b) }"},
                   {"(float[3] a) => (float[3] y) { y = Mul(a, a) }"},
                   {"() => (int64[2] y) <int64[2] a = {100, -3}, int64[2] b = {7, 5}> { y = Mul(a, b) }"}}),
      formula_row("Div", follow,
                  {.elementwise = Elementwise::broadcast,
                   .arithmetic = Arithmetic::quotient,
                   .keeps_integers = true,
                   .magnitude = magnitude::quotient},
                  div_gradient,
                  {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Div(a, b) }", 0.5, 2},
                   {"(float[2,1] a, float[3] b) => (float[2,3] y) { y = Div(a, b) }", -2, -0.5},
                   {"() => (int32[3] y) <int32[3] a = {-7, 7, 8}, int32[3] b = {2, -2, 3}> { y = Div(a, b) }"}},
                  "integer division truncates, and by 0 it is an error"),
      formula_row("Pow", full, kBroadcast, pow_gradient,
                  {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Pow(a, b) }", 0.5, 2},
                   {"(float[2,3] a) => (float[2,3] y) <float two = {2}> { y = Pow(a, two) }"},
                   {"(float[2,3] a) => (float[2,3] y) <int64[3] e = {0, 1, 3}> { y = Pow(a, e) }"},
                   {"(float[2,3] a) => (float[2,3] y) <float zero = {0}> { y = Pow(a, zero) }"},
                   {"(float[2,1] a, float[3] b) => (float[2,3] y) { y = Pow(a, b) }", 0.5, 2},
                   {"() => (int32[3] y) <int32[3] a = {2, -3, 7}, int32[3] e = {10, 3, 0}> { y = Pow(a, e) }"}},
                  "the gradient of the exponent is 0 where the base is 0 and NaN where it is negative"),
      formula_row("Min", follow,
                  {.elementwise = Elementwise::broadcast, .extremes = Extremes::bounds, .keeps_integers = true},
                  extremum_gradient,
                  {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Min(a, b) }"},
                   {"(float[2,1] a, float[3] b, float c) => (float[2,3] y) { y = Min(a, b, c) }"},
                   {"(float[3] a) => (float[3] y) { y = Min(a) }"}},
                  kTieNote),
      formula_row("Max", follow,
                  {.elementwise = Elementwise::broadcast, .extremes = Extremes::bounds, .keeps_integers = true},
                  extremum_gradient,
                  {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Max(a, b) }"},
                   {"(float[2,1] a, float[3] b, float c) => (float[2,3] y) { y = Max(a, b, c) }"},
                   {"() => (uint64[2] y) <uint64[2] a = {1, 9}, uint64[2] b = {4, 5}> { y = Max(a, b) }"}},
                  kTieNote),
      onnx_row("Sum", follow,
               {.elementwise = Elementwise::broadcast, .arithmetic = Arithmetic::sum, .magnitude = magnitude::sum}, sum,
               sum_gradient,
               {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Sum(a, b) }"},
                {"(float[2,1] a, float[3] b, float c) => (float[2,3] y) { y = Sum(a, b, c) }"},
                {"(float[3] a) => (float[3] y) { y = Sum(a) }"}}),
      onnx_row("Mean", follow, kBroadcast, mean, mean_gradient,
               {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) { y = Mean(a, b) }"},
                {"(float[2,1] a, float[3] b, float c) => (float[2,3] y) { y = Mean(a, b, c) }"}}),
      formula_row("Mod", full, {.elementwise = Elementwise::broadcast, .keeps_integers = true}, mod_gradient,
                  {{"(float[2,3] a) => (float[2,3] y) <float[3] b = {0.7, -0.9, 1.3}> { y = Mod(a, b) }", -2, 2, false},
                   {"(float[2,3] a) => (float[2,3] y) <float[3] b = {5, 6, 7}> { y = Mod<fmod=1>(a, b) }"},
                   {"() => (int32[3] y) <int32[3] a = {-7, 7, 8}, int32[3] b = {2, -2, 3}> { y = Mod(a, b) }"},
                   {"() => (int32[3] y) <int32[3] a = {-7, 7, 8}, int32[3] b = {2, -2, 3}> { y = Mod<fmod=1>(a, b) }"}},
                  "integer remainders by 0 are an error"),
      onnx_row(
          "Where", neutral, kBroadcast, where, where_gradient,
          {{"(float[2,3] a, float[2,3] b) => (float[2,3] y) <bool[3] c = {1, 0, 1}> { y = Where(c, a, b) }"},
           {"(float a, float[3] b) => (float[2,3] y) <bool[2,1] c = {1, 0}> { y = Where(c, a, b) }"},
           {"() => (int64[2] y) <bool[2] c = {1, 0}, int64[2] a = {1, 2}, int64 b = {7}> { y = Where(c, a, b) }"}}),
      formula_row("PRelu", follow,
                  {.elementwise = Elementwise::unary, .operands = {OperandRole::data, OperandRole::slope}},
                  prelu_gradient,
                  {{"(float[2,3,4] x, float[3,1] s) => (float[2,3,4] y) { y = PRelu(x, s) }"},
                   {"(float[2,3] x, float[1] s) => (float[2,3] y) { y = PRelu(x, s) }"},
                   {"() => (int32[3] y) <int32[3] x = {-4, 0, 3}, int32[1] s = {2}> { y = PRelu(x, s) }"}},
                  "slope gradient at 0 is 0, and x takes the slope's side there"),
  };
}

}  // namespace

std::span<const OpDef> binary_ops() {
  static const std::vector<OpDef> rows = join({arithmetic_rows(), comparison_rows(), chain_rows()});
  return rows;
}

}  // namespace halfstep::ops
