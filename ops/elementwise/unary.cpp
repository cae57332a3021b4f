// Operators of one operand, element by element.
#include <numbers>

#include "ops/elementwise/cast.h"
#include "ops/elementwise/formula.h"
#include "ops/elementwise/formula_magnitude.h"
#include "ops/families.h"
#include "ops/magnitude.h"
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
      {.name = "Neg",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary,
                  .arithmetic = Arithmetic::negation,
                  .keeps_integers = true,
                  .magnitude = magnitude::same},
       .reference = run_formula,
       .gradient = neg_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Neg(x) }"},
                 {"(float x) => (float y) { y = Neg(x) }"},
                 {"(float[0,3] x) => (float[0,3] y) { y = Neg(x) }"},
                 {"() => (int8[3] y) <int8[3] x = {-128, 0, 5}> { y = Neg(x) }"}}},
      {.name = "Abs",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .keeps_integers = true, .magnitude = magnitude::same},
       .reference = run_formula,
       .gradient = abs_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Abs(x) }"},
                 {"() => (int64[3] y) <int64[3] x = {-9, 0, 5}> { y = Abs(x) }"},
                 {"() => (uint8[2] y) <uint8[2] x = {255, 3}> { y = Abs(x) }"}},
       .note = "gradient 0 at 0"},
      {.name = "Sqrt",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = sqrt_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Sqrt(x) }", 0.25, 4},
                 {"(float x) => (float y) { y = Sqrt(x) }", 0.25, 4}}},
      {.name = "Reciprocal",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = reciprocal_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Reciprocal(x) }", 0.5, 2},
                 {"(float[5] x) => (float[5] y) { y = Reciprocal(x) }", -2, -0.5}}},
      {.name = "Exp",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = exp_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Exp(x) }"}, {"(float x) => (float y) { y = Exp(x) }"}}},
      {.name = "Log",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = log_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Log(x) }", 0.25, 4},
                 {"(float[7] x) => (float[7] y) { y = Log(x) }", 0.25, 4}}},
      {.name = "Sign",
       .precision = follow,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = no_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Sign(x) }", -2, 2, false},
                 {"() => (int32[3] y) <int32[3] x = {-9, 0, 5}> { y = Sign(x) }"}}},
      {.name = "Floor",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .keeps_integers = true},
       .reference = run_formula,
       .gradient = no_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Floor(x) }", -2, 2, false}}},
      {.name = "Ceil",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .keeps_integers = true},
       .reference = run_formula,
       .gradient = no_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Ceil(x) }", -2, 2, false}}},
      {.name = "Round",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .keeps_integers = true},
       .reference = run_formula,
       .gradient = no_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Round(x) }", -2, 2, false}}},
      {.name = "Erf",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude_of<Formula::Erf>},
       .reference = run_formula,
       .gradient = erf_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Erf(x) }"}}},
      {.name = "IsNaN",
       .precision = follow,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = no_gradient,
       .cases = {{"(float[2,3] x) => (bool[2,3] y) { r = Sqrt(x) y = IsNaN(r) }", -2, 2, false}}},
      {.name = "IsInf",
       .precision = follow,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = no_gradient,
       .cases = {{"(float[2,3] x) => (bool[2,3] y) { z = Sub(x, x) q = Div(x, z) y = IsInf(q) }", -2, 2, false},
                 {"(float[2,3] x) => (bool[2,3] y) { z = Sub(x, x) q = Div(x, z) y = IsInf<detect_negative=0>(q) }", -2,
                  2, false}}},
      {.name = "Not",
       .precision = neutral,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = no_gradient,
       .cases = {{"() => (bool[3] y) <bool[3] x = {1, 0, 1}> { y = Not(x) }"}}},
      {.name = "Sin",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = sin_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Sin(x) }"}}},
      {.name = "Cos",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = cos_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Cos(x) }"}}},
      {.name = "Tan",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = tan_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Tan(x) }", -1, 1}}},
      {.name = "Asin",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = asin_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Asin(x) }", -0.8, 0.8}}},
      {.name = "Acos",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = acos_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Acos(x) }", -0.8, 0.8}}},
      {.name = "Atan",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = atan_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Atan(x) }"}}},
      {.name = "Sinh",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = sinh_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Sinh(x) }"}}},
      {.name = "Cosh",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = cosh_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Cosh(x) }"}}},
      {.name = "Asinh",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = asinh_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Asinh(x) }"}}},
      {.name = "Acosh",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = acosh_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Acosh(x) }", 1.5, 4}}},
      {.name = "Atanh",
       .precision = full,
       .traits = kUnary,
       .reference = run_formula,
       .gradient = atanh_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Atanh(x) }", -0.8, 0.8}}},
      {.name = "BitwiseNot",
       .precision = neutral,
       .traits = kUnary,
       .reference = bitwise_not,
       .gradient = no_gradient,
       .cases = {{"() => (uint8[3] y) <uint8[3] x = {0, 1, 255}> { y = BitwiseNot(x) }"},
                 {"() => (int16[3] y) <int16[3] x = {0, 1, -7}> { y = BitwiseNot(x) }"}}},
      {.name = "Identity",
       .precision = neutral,
       .traits = {.movement = Movement::identity, .elementwise = Elementwise::unary},
       .reference = identity,
       .gradient = pass_through,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Identity(x) }"},
                 {"() => (int64[2] y) <int64[2] x = {3, -4}> { y = Identity(x) }"}},
       .note = "tensors only: no sequences, no optionals"},
      {.name = "Cast",
       .precision = neutral,
       .traits = {.movement = Movement::convert, .elementwise = Elementwise::unary, .magnitude = magnitude::same},
       .reference = cast_kernel,
       .gradient = cast_gradient,
       .cases = {{"(float[2,3] x) => (double[2,3] y) { y = Cast<to=11>(x) }"},
                 {"(float[2,3] x) => (int32[2,3] y) { y = Cast<to=6>(x) }", -2, 2, false},
                 {"(float[2,3] x) => (bool[2,3] y) { y = Cast<to=9>(x) }", -2, 2, false},
                 {"() => (int8[3] y) <int32[3] x = {200, -3, 5}> { y = Cast<to=3>(x) }"}},
       .note = "floats out of an integer type's range saturate; NaN becomes 0"},
      {.name = "CastLike",
       .precision = neutral,
       .traits = {.movement = Movement::convert, .elementwise = Elementwise::unary, .magnitude = magnitude::same},
       .reference = cast_like_kernel,
       .gradient = cast_gradient,
       .cases = {{"(float[2,3] x) => (double[2,3] y) <double[1] t = {0}> { y = CastLike(x, t) }"},
                 {"(float[2,3] x) => (int64[2,3] y) <int64[1] t = {0}> { y = CastLike(x, t) }", -2, 2, false}}},
  };
  return rows;
}

}  // namespace halfstep::ops
