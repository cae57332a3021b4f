// Activations: elementwise nonlinearities of one operand.
#include <algorithm>
#include <cmath>

#include "ops/families.h"
#include "ops/family_parts.h"
#include "ops/gradient_schema.h"
#include "ops/magnitude.h"
#include "ops/schema_util.h"
#include <halfstep/ops/gradient_util.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

template <class F>
void map_float(KernelCall& call, F f) {
  map_unary<double>(call, call.in[0].dtype(), f);
}
double parameter(const Node& node, std::string_view name, float fallback) {
  return node.attributes.get_float(name, fallback);
}
// Defaults of ONNX's Selu.
constexpr float kSeluAlpha = 1.67326319f, kSeluGamma = 1.05070102f;

// One formula each: the kernel's, and what the magnitude of its results is expected by.
constexpr auto relu_of = []<class W>(W x) { return x < W{0} ? W{0} : x; };
double leaky_relu_of(double x, double alpha) { return x < 0 ? alpha * x : x; }
double elu_of(double x, double alpha) { return x < 0 ? alpha * std::expm1(x) : x; }
double selu_with(double x, double alpha, double gamma) { return gamma * (x > 0 ? x : alpha * std::expm1(x)); }
double selu_of(double x, double alpha) { return selu_with(x, alpha, kSeluGamma); }
double celu_of(double x, double alpha) { return x > 0 ? x : alpha * std::expm1(x / alpha); }
double thresholded_relu_of(double x, double alpha) { return x <= alpha ? 0 : x; }
double hard_sigmoid_with(double x, double alpha, double beta) { return std::clamp(alpha * x + beta, 0.0, 1.0); }
double hard_sigmoid_of(double x, double alpha) { return hard_sigmoid_with(x, alpha, 0.5); }
double hard_swish_of(double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }
double logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double tanh_of(double x) { return std::tanh(x); }
double softplus_of(double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); }
double softsign_of(double x) { return x / (1 + std::fabs(x)); }
double mish_of(double x) { return x * std::tanh(softplus_of(x)); }
double swish_of(double x, double alpha) { return x * logistic(alpha * x); }

template <double (*F)(double)>
void function(KernelCall& call) {
  map_float(call, F);
}
/// Of an operator whose attribute alpha has this default.
template <double (*F)(double x, double alpha), float by_default>
void function_with_alpha(KernelCall& call) {
  const double alpha = parameter(call.node, "alpha", by_default);
  map_float(call, [=](double x) { return F(x, alpha); });
}

void relu(KernelCall& call) {
  visit_wide(call.in[0].dtype(), [&]<class W>() { map_unary<W>(call, call.in[0].dtype(), relu_of); });
}
void selu(KernelCall& call) {
  const double alpha = parameter(call.node, "alpha", kSeluAlpha), gamma = parameter(call.node, "gamma", kSeluGamma);
  map_float(call, [=](double x) { return selu_with(x, alpha, gamma); });
}
void hard_sigmoid(KernelCall& call) {
  const double alpha = parameter(call.node, "alpha", 0.2f), beta = parameter(call.node, "beta", 0.5f);
  map_float(call, [=](double x) { return hard_sigmoid_with(x, alpha, beta); });
}
void shrink(KernelCall& call) {
  const double lambd = parameter(call.node, "lambd", 0.5f), bias = parameter(call.node, "bias", 0);
  map_float(call, [=](double x) { return x < -lambd ? x + bias : x > lambd ? x - bias : x != x ? x : 0; });
}

void clip(KernelCall& call) {
  visit_wide(call.in[0].dtype(), [&]<class W>() {
    const std::vector<W> low = call.has_in(1) ? load<W>(call.in[1]) : std::vector<W>();
    const std::vector<W> high = call.has_in(2) ? load<W>(call.in[2]) : std::vector<W>();
    map_unary<W>(call, call.in[0].dtype(), [&](W x) {
      if (!low.empty() && x < low[0]) x = low[0];
      if (!high.empty() && x > high[0]) x = high[0];  // after low: the upper bound wins when they cross
      return x;
    });
  });
}
void clip_grad(KernelCall& call) {
  std::vector<double> dy = to_doubles(call.in[0]);
  const std::vector<double> x = to_doubles(call.in[1]);
  const std::vector<double> low = call.has_in(2) ? to_doubles(call.in[2]) : std::vector<double>();
  const std::vector<double> high = call.has_in(3) ? to_doubles(call.in[3]) : std::vector<double>();
  for (std::size_t i = 0; i < dy.size(); ++i)
    if ((!low.empty() && x[i] < low[0]) || (!high.empty() && x[i] > high[0])) dy[i] = 0;
  store(ensure_out(call, 0, call.in[0].dtype(), call.in[0].shape()), std::span<const double>(dy));
}
void relu_grad(KernelCall& call) {
  map_binary<double>(call, call.in[0].dtype(), [](double dy, double y) { return y <= 0 ? 0 : dy; });
}

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
      {.name = "Relu",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<relu_of>},
       .reference = relu,
       .gradient = relu_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Relu(x) }"},
                 {"(float x) => (float y) { y = Relu(x) }"},
                 {"(float[0,3] x) => (float[0,3] y) { y = Relu(x) }"},
                 {"() => (int8[3] y) <int8[3] x = {-4, 0, 3}> { y = Relu(x) }"}},
       .note = "gradient 0 at 0; NaN passes, and lets the gradient pass, as in PyTorch"},
      {.name = "LeakyRelu",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<leaky_relu_of, 0.01f>},
       .reference = function_with_alpha<leaky_relu_of, 0.01f>,
       .gradient = leaky_relu_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = LeakyRelu(x) }"},
                 {"(float[2,3] x) => (float[2,3] y) { y = LeakyRelu<alpha=0.3>(x) }"}},
       .note = "gradient alpha at 0"},
      {.name = "Elu",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<elu_of, 1.0f>},
       .reference = function_with_alpha<elu_of, 1.0f>,
       .gradient = elu_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Elu(x) }"},
                 {"(float[2,3] x) => (float[2,3] y) { y = Elu<alpha=2.0>(x) }"}},
       .note = "gradient alpha at 0"},
      {.name = "Selu",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<selu_of, kSeluAlpha>},
       .reference = selu,
       .gradient = selu_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Selu(x) }"},
                 {"(float[2,3] x) => (float[2,3] y) { y = Selu<alpha=2.0, gamma=3.0>(x) }"}},
       .note = "gradient alpha * gamma at 0"},
      {.name = "Celu",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<celu_of, 1.0f>},
       .reference = function_with_alpha<celu_of, 1.0f>,
       .gradient = celu_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Celu(x) }"},
                 {"(float[2,3] x) => (float[2,3] y) { y = Celu<alpha=2.0>(x) }"}}},
      {.name = "ThresholdedRelu",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary},
       .reference = function_with_alpha<thresholded_relu_of, 1.0f>,
       .gradient = thresholded_relu_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = ThresholdedRelu(x) }", -4, 4},
                 {"(float[2,3] x) => (float[2,3] y) { y = ThresholdedRelu<alpha=0.3>(x) }"}},
       .note = "gradient 0 at alpha; NaN passes, as in PyTorch"},
      {.name = "HardSigmoid",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<hard_sigmoid_of, 0.2f>},
       .reference = hard_sigmoid,
       .gradient = hard_sigmoid_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = HardSigmoid(x) }", -4, 4},
                 {"(float[2,3] x) => (float[2,3] y) { y = HardSigmoid<alpha=0.5, beta=0.25>(x) }"}},
       .note = "gradient 0 at both kinks"},
      {.name = "HardSwish",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<hard_swish_of>},
       .reference = function<hard_swish_of>,
       .gradient = hard_swish_gradient,
       .cases = {{"(float[4,3] x) => (float[4,3] y) { y = HardSwish(x) }", -5, 5}},
       .note = "gradient 0 at -3 and 1 at 3"},
      {.name = "Sigmoid",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<logistic>},
       .reference = function<logistic>,
       .gradient = sigmoid_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Sigmoid(x) }"},
                 {"(float x) => (float y) { y = Sigmoid(x) }"}}},
      {.name = "Tanh",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<tanh_of>},
       .reference = function<tanh_of>,
       .gradient = tanh_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Tanh(x) }"}, {"(float x) => (float y) { y = Tanh(x) }"}}},
      {.name = "Softplus",
       .precision = full,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<softplus_of>},
       .reference = function<softplus_of>,
       .gradient = softplus_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Softplus(x) }"}}},
      {.name = "Softsign",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<softsign_of>},
       .reference = function<softsign_of>,
       .gradient = softsign_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Softsign(x) }"}}},
      {.name = "Mish",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<mish_of>},
       .reference = function<mish_of>,
       .gradient = mish_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Mish(x) }"}}},
      {.name = "Swish",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary, .magnitude = magnitude::after<swish_of, 1.0f>},
       .reference = function_with_alpha<swish_of, 1.0f>,
       .gradient = swish_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Swish(x) }"},
                 {"(float[2,3] x) => (float[2,3] y) { y = Swish<alpha=1.7>(x) }"}}},
      {.name = "Shrink",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary},
       .reference = shrink,
       .gradient = shrink_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) { y = Shrink(x) }"},
                 {"(float[2,3] x) => (float[2,3] y) { y = Shrink<lambd=1.0, bias=1.0>(x) }"}},
       .note = "gradient 0 at both kinks; NaN passes, as in PyTorch"},
      {.name = "Clip",
       .precision = follow,
       .traits = {.elementwise = Elementwise::unary,
                  .operands = {data, bound, bound},
                  .body_bf16_since = 16,
                  .magnitude = magnitude::clip},
       .reference = clip,
       .gradient = clip_gradient,
       .cases = {{"(float[2,3] x) => (float[2,3] y) <float lo = {-1}, float hi = {1}> { y = Clip(x, lo, hi) }"},
                 {"(float[2,3] x) => (float[2,3] y) <float lo = {-1}> { y = Clip(x, lo) }"},
                 {"(float[2,3] x) => (float[2,3] y) <float hi = {1}> { y = Clip(x, , hi) }"},
                 {"(float[2,3] x) => (float[2,3] y) { y = Clip(x) }"},
                 {"() => (uint8[3] y) <uint8[3] x = {0, 7, 255}, uint8 lo = {3}, uint8 hi = {9}>"
                  " { y = Clip(x, lo, hi) }"}},
       .note = "gradient 1 at the bounds and at NaN, none to the bounds"},
      {.name = "ReluGrad",
       .domain = kOwnDomain,
       .precision = follow,
       .reference = relu_grad,
       .cases = {{"(float[2,3] dy, float[2,3] y) => (float[2,3] dx) { dx = ai.halfstep.ReluGrad(dy, y) }", -2, 2,
                  false}},
       .schema = relu_grad_schema},
      {.name = "ClipGrad",
       .domain = kOwnDomain,
       .precision = follow,
       .reference = clip_grad,
       .cases = {{"(float[2,3] dy, float[2,3] x) => (float[2,3] dx) <float lo = {-1}, float hi = {1}>"
                  " { dx = ai.halfstep.ClipGrad(dy, x, lo, hi) }",
                  -2, 2, false},
                 {"(float[2,3] dy, float[2,3] x) => (float[2,3] dx) <float hi = {1}>"
                  " { dx = ai.halfstep.ClipGrad(dy, x, , hi) }",
                  -2, 2, false}},
       .schema = clip_grad_schema},
  };
}

}  // namespace

std::span<const OpDef> activation_ops() {
  static const std::vector<OpDef> rows = join({elementwise_rows(), gelu_rows(), softmax_rows()});
  return rows;
}

}  // namespace halfstep::ops
