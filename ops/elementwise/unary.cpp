// Operators of one operand, element by element.
#include <numbers>

#include "ops/elementwise/cast.h"
#include "ops/elementwise/formula.h"
#include "ops/elementwise/formula_magnitude.h"
#include "ops/families.h"
#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

void bitwise_not(KernelCall& call) {
  map_unary<std::uint64_t>(call, call.in[0].dtype(), [](std::uint64_t x) { return ~x; });
}

void identity(KernelCall& call) {
  copy_elements(call.in[0], ensure_out(call, 0, call.in[0].dtype(), call.in[0].shape()));
}

void cast_to(KernelCall& call, DType to) {
  const Attributes& attributes = call.node.attributes;
  const CastOptions options{.saturate = attributes.get_int("saturate", 1) != 0,
                            .round_mode = attributes.get_string("round_mode", "up")};
  cast(call.in[0], ensure_out(call, 0, to, call.in[0].shape()), options);
}
void cast_kernel(KernelCall& call) {
  cast_to(call, static_cast<DType>(call.node.attributes.get_int("to", static_cast<std::int64_t>(DType::f32))));
}
void cast_like_kernel(KernelCall& call) { cast_to(call, call.in[1].dtype()); }

Gradients pass_through(GradientContext& g) { return {g.dy()}; }
Gradients cast_gradient(GradientContext& g) {
  const DType from = g.in(0).dtype();
  return is_float(from) ? Gradients{g.b.cast(g.dy(), from)} : Gradients{};
}

Expr square(Expr x) { return x * x; }
Expr apply(GradientContext& g, std::string_view op, Expr x) { return g.b.op(op, {x}); }

Gradients neg_gradient(GradientContext& g) { return {-g.dy()}; }
Gradients abs_gradient(GradientContext& g) { return {g.dy() * apply(g, "Sign", g.in(0))}; }
Gradients sqrt_gradient(GradientContext& g) { return {g.dy() / (g.out(0) * 2)}; }
Gradients reciprocal_gradient(GradientContext& g) { return {-(g.dy() * square(g.out(0)))}; }
Gradients exp_gradient(GradientContext& g) { return {g.dy() * g.out(0)}; }
Gradients log_gradient(GradientContext& g) { return {g.dy() / g.in(0)}; }
Gradients erf_gradient(GradientContext& g) {
  return {g.dy() * (apply(g, "Exp", -square(g.in(0))) * (2 * std::numbers::inv_sqrtpi))};
}
Gradients sin_gradient(GradientContext& g) { return {g.dy() * apply(g, "Cos", g.in(0))}; }
Gradients cos_gradient(GradientContext& g) { return {-(g.dy() * apply(g, "Sin", g.in(0)))}; }
Gradients tan_gradient(GradientContext& g) { return {g.dy() * (square(g.out(0)) + 1)}; }
Gradients asin_gradient(GradientContext& g) { return {g.dy() / apply(g, "Sqrt", 1 - square(g.in(0)))}; }
Gradients acos_gradient(GradientContext& g) { return {-(g.dy() / apply(g, "Sqrt", 1 - square(g.in(0))))}; }
Gradients atan_gradient(GradientContext& g) { return {g.dy() / (square(g.in(0)) + 1)}; }
Gradients sinh_gradient(GradientContext& g) { return {g.dy() * apply(g, "Cosh", g.in(0))}; }
Gradients cosh_gradient(GradientContext& g) { return {g.dy() * apply(g, "Sinh", g.in(0))}; }
Gradients asinh_gradient(GradientContext& g) { return {g.dy() / apply(g, "Sqrt", square(g.in(0)) + 1)}; }
Gradients acosh_gradient(GradientContext& g) { return {g.dy() / apply(g, "Sqrt", square(g.in(0)) - 1)}; }
Gradients atanh_gradient(GradientContext& g) { return {g.dy() / (1 - square(g.in(0)))}; }

}  // namespace

std::span<const OpDef> unary_ops() {
  using enum PrecisionClass;
  constexpr OpTraits kUnary{.elementwise = Elementwise::unary};
  static const OpDef rows[] = {
      formula_row("Neg", follow,
                  {.elementwise = Elementwise::unary,
                   .arithmetic = Arithmetic::negation,
                   .keeps_integers = true,
                   .magnitude = magnitude::same},
                  neg_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Neg(x) }"},
                   {"(float x) => (float y) { y = Neg(x) }"},
                   {"(float[0,3] x) => (float[0,3] y) { y = Neg(x) }"},
                   {"() => (int8[3] y) <int8[3] x = {-128, 0, 5}> { y = Neg(x) }"}}),
      formula_row("Abs", follow,
                  {.elementwise = Elementwise::unary, .keeps_integers = true, .magnitude = magnitude::same},
                  abs_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Abs(x) }"},
                   {"() => (int64[3] y) <int64[3] x = {-9, 0, 5}> { y = Abs(x) }"},
                   {"() => (uint8[2] y) <uint8[2] x = {255, 3}> { y = Abs(x) }"}},
                  "gradient 0 at 0"),
      formula_row("Sqrt", full, kUnary, sqrt_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Sqrt(x) }", 0.25, 4},
                   {"(float x) => (float y) { y = Sqrt(x) }", 0.25, 4}}),
      formula_row("Reciprocal", full, kUnary, reciprocal_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Reciprocal(x) }", 0.5, 2},
                   {"(float[5] x) => (float[5] y) { y = Reciprocal(x) }", -2, -0.5}}),
      formula_row("Exp", full, kUnary, exp_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Exp(x) }"}, {"(float x) => (float y) { y = Exp(x) }"}}),
      formula_row("Log", full, kUnary, log_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Log(x) }", 0.25, 4},
                   {"(float[7] x) => (float[7] y) { y = Log(x) }", 0.25, 4}}),
      formula_row("Sign", follow, kUnary, no_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Sign(x) }", -2, 2, false},
                   {"() => (int32[3] y) <int32[3] x = {-9, 0, 5}> { y = Sign(x) }"}}),
      formula_row("Floor", follow, {.elementwise = Elementwise::unary, .keeps_integers = true}, no_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Floor(x) }", -2, 2, false}}),
      formula_row("Ceil", follow, {.elementwise = Elementwise::unary, .keeps_integers = true}, no_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Ceil(x) }", -2, 2, false}}),
      formula_row("Round", follow, {.elementwise = Elementwise::unary, .keeps_integers = true}, no_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Round(x) }", -2, 2, false}}),
      formula_row("Erf", follow, kSized<Formula::Erf>, erf_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Erf(x) }"}}),
      formula_row("IsNaN", follow, kUnary, no_gradient,
                  {{"(float[2,3] x) => (bool[2,3] y) { r = Sqrt(x) y = IsNaN(r) }", -2, 2, false}}),
      formula_row("IsInf", follow, kUnary, no_gradient,
                  {{"(float[2,3] x) => (bool[2,3] y) { z = Sub(x, x) q = Div(x, z) y = IsInf(q) }", -2, 2, false},
                   {"(float[2,3] x) => (bool[2,3] y) { z = Sub(x, x) q = Div(x, z) y = IsInf<detect_negative=0>(q) }",
                    -2, 2, false}}),
      formula_row("Not", neutral, kUnary, no_gradient, {{"() => (bool[3] y) <bool[3] x = {1, 0, 1}> { y = Not(x) }"}}),
      formula_row("Sin", full, kUnary, sin_gradient, {{"(float[2,3] x) => (float[2,3] y) { y = Sin(x) }"}}),
      formula_row("Cos", full, kUnary, cos_gradient, {{"(float[2,3] x) => (float[2,3] y) { y = Cos(x) }"}}),
      formula_row("Tan", full, kUnary, tan_gradient, {{"(float[2,3] x) => (float[2,3] y) { y = Tan(x) }", -1, 1}}),
      formula_row("Asin", full, kUnary, asin_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Asin(x) }", -0.8, 0.8}}),
      formula_row("Acos", full, kUnary, acos_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Acos(x) }", -0.8, 0.8}}),
      formula_row("Atan", full, kUnary, atan_gradient, {{"(float[2,3] x) => (float[2,3] y) { y = Atan(x) }"}}),
      formula_row("Sinh", full, kUnary, sinh_gradient, {{"(float[2,3] x) => (float[2,3] y) { y = Sinh(x) }"}}),
      formula_row("Cosh", full, kUnary, cosh_gradient, {{"(float[2,3] x) => (float[2,3] y) { y = Cosh(x) }"}}),
      formula_row("Asinh", full, kUnary, asinh_gradient, {{"(float[2,3] x) => (float[2,3] y) { y = Asinh(x) }"}}),
      formula_row("Acosh", full, kUnary, acosh_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Acosh(x) }", 1.5, 4}}),
      formula_row("Atanh", full, kUnary, atanh_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Atanh(x) }", -0.8, 0.8}}),
      onnx_row("BitwiseNot", neutral, kUnary, bitwise_not, no_gradient,
               {{"() => (uint8[3] y) <uint8[3] x = {0, 1, 255}> { y = BitwiseNot(x) }"},
                {"() => (int16[3] y) <int16[3] x = {0, 1, -7}> { y = BitwiseNot(x) }"}}),
      onnx_row("Identity", neutral, {.movement = Movement::identity, .elementwise = Elementwise::unary}, identity,
               pass_through,
               {{"(float[2,3] x) => (float[2,3] y) { y = Identity(x) }"},
                {"() => (int64[2] y) <int64[2] x = {3, -4}> { y = Identity(x) }"}},
               "tensors only: no sequences, no optionals"),
      onnx_row("Cast", neutral,
               {.movement = Movement::convert, .elementwise = Elementwise::unary, .magnitude = magnitude::same},
               cast_kernel, cast_gradient,
               {{"(float[2,3] x) => (double[2,3] y) { y = Cast<to=11>(x) }"},
                {"(float[2,3] x) => (int32[2,3] y) { y = Cast<to=6>(x) }", -2, 2, false},
                {"(float[2,3] x) => (bool[2,3] y) { y = Cast<to=9>(x) }", -2, 2, false},
                {"() => (int8[3] y) <int32[3] x = {200, -3, 5}> { y = Cast<to=3>(x) }"}},
               "floats out of an integer type's range saturate; NaN becomes 0"),
      onnx_row("CastLike", neutral,
               {.movement = Movement::convert, .elementwise = Elementwise::unary, .magnitude = magnitude::same},
               cast_like_kernel, cast_gradient,
               {{"(float[2,3] x) => (double[2,3] y) <double[1] t = {0}> { y = CastLike(x, t) }"},
                {"(float[2,3] x) => (int64[2,3] y) <int64[1] t = {0}> { y = CastLike(x, t) }", -2, 2, false}}),
  };
  return rows;
}

}  // namespace halfstep::ops
