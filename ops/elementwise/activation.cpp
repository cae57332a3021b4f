// Activations: elementwise nonlinearities of one operand.
#include "ops/elementwise/formula.h"
#include "ops/elementwise/formula_magnitude.h"
#include "ops/families.h"
#include "ops/family_parts.h"
#include "ops/gradient_schema.h"
#include "ops/magnitude.h"
#include "ops/schema_util.h"
#include <halfstep/ops/gradient_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

double parameter(const Node& node, std::string_view name, float fallback) {
  return node.attributes.get_float(name, fallback);
}
// Defaults of ONNX's Selu.
constexpr float kSeluAlpha = 1.67326319f, kSeluGamma = 1.05070102f;

Expr compare(GradientContext& g, std::string_view op, Expr x, double bound) {
  return g.b.op(op, {x, g.b.scalar(bound, x.dtype())});
}
Expr sigmoid_of(GradientContext& g, Expr x) { return g.b.op("Sigmoid", {x}); }

Gradients relu_gradient(GradientContext& g) { return {g.b.own("ReluGrad", {g.dy(), g.out(0)})}; }
Gradients leaky_relu_gradient(GradientContext& g) {
  const double alpha = parameter(g.node, "alpha", 0.01f);
  return {select(compare(g, "Greater", g.in(0), 0), g.dy(), g.dy() * alpha)};
}
Gradients elu_gradient(GradientContext& g) {
  const Expr slope = g.b.op("Exp", {g.in(0)}) * parameter(g.node, "alpha", 1);
  return {select(compare(g, "Greater", g.in(0), 0), g.dy(), g.dy() * slope)};
}
Gradients selu_gradient(GradientContext& g) {
  const double alpha = parameter(g.node, "alpha", kSeluAlpha), gamma = parameter(g.node, "gamma", kSeluGamma);
  const Expr slope = g.b.op("Exp", {g.in(0)}) * (alpha * gamma);
  return {select(compare(g, "Greater", g.in(0), 0), g.dy() * gamma, g.dy() * slope)};
}
Gradients celu_gradient(GradientContext& g) {
  const Expr slope = g.b.op("Exp", {g.in(0) / parameter(g.node, "alpha", 1)});
  return {select(compare(g, "Greater", g.in(0), 0), g.dy(), g.dy() * slope)};
}
Gradients thresholded_relu_gradient(GradientContext& g) {
  return {select(compare(g, "LessOrEqual", g.in(0), parameter(g.node, "alpha", 1)), zero_like(g.dy()), g.dy())};
}
Gradients hard_sigmoid_gradient(GradientContext& g) {
  const Expr flat = g.b.op("Or", {compare(g, "LessOrEqual", g.out(0), 0), compare(g, "GreaterOrEqual", g.out(0), 1)});
  return {select(flat, zero_like(g.dy()), g.dy() * parameter(g.node, "alpha", 0.2f))};
}
Gradients hard_swish_gradient(GradientContext& g) {
  const Expr x = g.in(0);
  const Expr inside = g.dy() * (x / 3 + 0.5);
  return {
      select(compare(g, "LessOrEqual", x, -3), zero_like(g.dy()), select(compare(g, "Less", x, 3), inside, g.dy()))};
}
Gradients sigmoid_gradient(GradientContext& g) { return {g.dy() * (g.out(0) * (1 - g.out(0)))}; }
Gradients tanh_gradient(GradientContext& g) { return {g.dy() * (1 - g.out(0) * g.out(0))}; }
Gradients softplus_gradient(GradientContext& g) { return {g.dy() * sigmoid_of(g, g.in(0))}; }
Gradients softsign_gradient(GradientContext& g) {
  const Expr d = g.b.op("Abs", {g.in(0)}) + 1;
  return {g.dy() / (d * d)};
}
Gradients mish_gradient(GradientContext& g) {
  const Expr x = g.in(0), t = g.b.op("Tanh", {g.b.op("Softplus", {x})});
  return {g.dy() * (t + x * sigmoid_of(g, x) * (1 - t * t))};
}
Gradients swish_gradient(GradientContext& g) {
  const Expr ax = g.in(0) * parameter(g.node, "alpha", 1), s = sigmoid_of(g, ax);
  return {g.dy() * (s * (ax * (1 - s) + 1))};
}
Gradients shrink_gradient(GradientContext& g) {
  if (!is_float(g.in(0).dtype())) return {};
  const Expr size = g.b.op("Abs", {g.in(0)});
  return {select(compare(g, "LessOrEqual", size, parameter(g.node, "lambd", 0.5f)), zero_like(g.dy()), g.dy())};
}
Gradients clip_gradient(GradientContext& g) { return {g.b.own("ClipGrad", {g.dy(), g.in(0), g.in(1), g.in(2)})}; }

void relu_grad_schema(onnx::OpSchema& schema) {
  gradient_schema(schema, "Gradient of Relu: 0 where Y is at most 0, otherwise dY.", "Y", "Relu's output.");
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext&) -> std::string {
    return R"(zero_f = Constant<value_float = 0.0>()
              zero = CastLike(zero_f, Y)
              closed = LessOrEqual(Y, zero)
              dX = Where(closed, zero, dY))";
  });
}
void clip_grad_schema(onnx::OpSchema& schema) {
  gradient_schema(schema, "Gradient of Clip: 0 where X < min or X > max, otherwise dY.", "X", "Clip's input.")
      .Input(2, "min", "Lower bound, a scalar.", "T", onnx::OpSchema::Optional)
      .Input(3, "max", "Upper bound, a scalar.", "T", onnx::OpSchema::Optional);
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    std::string text = "zero_f = Constant<value_float = 0.0>() zero = CastLike(zero_f, dY)";
    const bool has_min = call.hasInput(2), has_max = call.hasInput(3);
    if (!has_min && !has_max) return std::string("dX = Identity(dY)");
    if (has_min) text += " below = Less(X, min)";
    if (has_max) text += " above = Greater(X, max)";
    if (has_min && has_max) text += " outside = Or(below, above)";
    return text + " dX = Where(" + (has_min && has_max ? "outside" : has_min ? "below" : "above") + ", zero, dY)";
  });
}
std::vector<OpDef> elementwise_rows() {
  using enum PrecisionClass;
  using enum OperandRole;
  return {
      formula_row("Relu", follow, kSized<Formula::Relu>, relu_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Relu(x) }"},
                   {"(float x) => (float y) { y = Relu(x) }"},
                   {"(float[0,3] x) => (float[0,3] y) { y = Relu(x) }"},
                   {"() => (int8[3] y) <int8[3] x = {-4, 0, 3}> { y = Relu(x) }"}},
                  "gradient 0 at 0; NaN passes, and lets the gradient pass, as in PyTorch"),
      formula_row("LeakyRelu", follow, kSized<Formula::LeakyRelu>, leaky_relu_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = LeakyRelu(x) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = LeakyRelu<alpha=0.3>(x) }"}},
                  "gradient alpha at 0"),
      formula_row("Elu", follow, kSized<Formula::Elu>, elu_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Elu(x) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = Elu<alpha=2.0>(x) }"}},
                  "gradient alpha at 0"),
      formula_row("Selu", follow, kSized<Formula::Selu>, selu_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Selu(x) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = Selu<alpha=2.0, gamma=3.0>(x) }"}},
                  "gradient alpha * gamma at 0"),
      formula_row("Celu", follow, kSized<Formula::Celu>, celu_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Celu(x) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = Celu<alpha=2.0>(x) }"}}),
      formula_row("ThresholdedRelu", follow, {.elementwise = Elementwise::unary}, thresholded_relu_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = ThresholdedRelu(x) }", -4, 4},
                   {"(float[2,3] x) => (float[2,3] y) { y = ThresholdedRelu<alpha=0.3>(x) }"}},
                  "gradient 0 at alpha; NaN passes, as in PyTorch"),
      formula_row("HardSigmoid", follow, kSized<Formula::HardSigmoid>, hard_sigmoid_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = HardSigmoid(x) }", -4, 4},
                   {"(float[2,3] x) => (float[2,3] y) { y = HardSigmoid<alpha=0.5, beta=0.25>(x) }"}},
                  "gradient 0 at both kinks"),
      formula_row("HardSwish", follow, kSized<Formula::HardSwish>, hard_swish_gradient,
                  {{"(float[4,3] x) => (float[4,3] y) { y = HardSwish(x) }", -5, 5}}, "gradient 0 at -3 and 1 at 3"),
      formula_row(
          "Sigmoid", follow, kSized<Formula::Sigmoid>, sigmoid_gradient,
          {{"(float[2,3] x) => (float[2,3] y) { y = Sigmoid(x) }"}, {"(float x) => (float y) { y = Sigmoid(x) }"}}),
      formula_row("Tanh", follow, kSized<Formula::Tanh>, tanh_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Tanh(x) }"}, {"(float x) => (float y) { y = Tanh(x) }"}}),
      formula_row("Softplus", full, kSized<Formula::Softplus>, softplus_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Softplus(x) }"}}),
      formula_row("Softsign", follow, kSized<Formula::Softsign>, softsign_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Softsign(x) }"}}),
      formula_row("Mish", follow, kSized<Formula::Mish>, mish_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Mish(x) }"}}),
      formula_row("Swish", follow, kSized<Formula::Swish>, swish_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Swish(x) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = Swish<alpha=1.7>(x) }"}}),
      formula_row("Shrink", follow, {.elementwise = Elementwise::unary}, shrink_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Shrink(x) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = Shrink<lambd=1.0, bias=1.0>(x) }"}},
                  "gradient 0 at both kinks; NaN passes, as in PyTorch"),
      formula_row("Clip", follow,
                  {.elementwise = Elementwise::unary,
                   .operands = {data, bound, bound},
                   .body_bf16_since = 16,
                   .magnitude = magnitude::clip},
                  clip_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) <float lo = {-1}, float hi = {1}> { y = Clip(x, lo, hi) }"},
                   {"(float[2,3] x) => (float[2,3] y) <float lo = {-1}> { y = Clip(x, lo) }"},
                   {"(float[2,3] x) => (float[2,3] y) <float hi = {1}> { y = Clip(x, , hi) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = Clip(x) }"},
                   {"() => (uint8[3] y) <uint8[3] x = {0, 7, 255}, uint8 lo = {3}, uint8 hi = {9}>"
                    " { y = Clip(x, lo, hi) }"}},
                  "gradient 1 at the bounds and at NaN, none to the bounds"),
      {.name = "ReluGrad",
       .domain = kOwnDomain,
       .precision = follow,
       .reference = run_formula,
       .cases = {{"(float[2,3] dy, float[2,3] y) => (float[2,3] dx) { dx = ai.halfstep.ReluGrad(dy, y) }"}},
       .schema = relu_grad_schema},
      {.name = "ClipGrad",
       .domain = kOwnDomain,
       .precision = follow,
       .reference = run_formula,
       .cases = {{"(float[2,3] dy, float[2,3] x) => (float[2,3] dx) <float lo = {-1}, float hi = {1}>"
                  " { dx = ai.halfstep.ClipGrad(dy, x, lo, hi) }"},
                 {"(float[2,3] dy, float[2,3] x) => (float[2,3] dx) <float hi = {1}>"
                  " { dx = ai.halfstep.ClipGrad(dy, x, , hi) }"}},
       .schema = clip_grad_schema},
  };
}

}  // namespace

std::span<const OpDef> activation_ops() {
  static const std::vector<OpDef> rows = join({elementwise_rows(), gelu_rows(), softmax_rows()});
  return rows;
}

}  // namespace halfstep::ops
