// Gelu in both forms, and its gradient.
#include <numbers>

#include <fmt/format.h>

#include "ops/elementwise/formula.h"
#include "ops/elementwise/formula_magnitude.h"
#include "ops/family_parts.h"
#include "ops/gradient_schema.h"
#include "ops/magnitude.h"
#include "ops/schema_util.h"

namespace halfstep::ops {
namespace {

std::vector<Expr> gelu_gradient(GradientContext& g) {
  return {g.b.own("GeluGrad", {g.dy(), g.in(0)}, g.node.attributes)};
}

void gelu_grad_schema(onnx::OpSchema& schema) {
  gradient_schema(schema, "Gradient of Gelu: dY times the slope at X.", "X", "Gelu's input.")
      .Attr("approximate", "As Gelu's.", onnx::AttributeProto::STRING, std::string("none"));
  set_function_body(schema, gelu_grad_body);
}

}  // namespace

std::string gelu_grad_body(const onnx::FunctionBodyBuildContext& call) {
  std::string text;
  auto number = [&text](const char* name, double value) {
    text += fmt::format("{0}_f = Constant<value_float = {1:.9e}>()\n{0} = CastLike({0}_f, X)\n", name, value);
  };
  number("half", 0.5);
  number("one", 1);
  text += "xx = Mul(X, X)\n";
  if (string_of(call, "approximate", "none") == "tanh") {
    number("scale", kGeluScale);
    number("cubic", kGeluCubic);
    number("triple", 3 * kGeluCubic);
    text +=
        "c = Mul(xx, cubic) c1 = Add(c, one) sx = Mul(scale, X) u = Mul(sx, c1) t = Tanh(u)\n"
        "tt = Mul(t, t) rest = Sub(one, tt) d = Mul(xx, triple) d1 = Add(d, one) du = Mul(sx, d1)\n"
        "along = Mul(du, rest) cdf = Add(t, one)\n";
  } else {
    number("shrink", 1 / std::numbers::sqrt2);
    number("minus_half", -0.5);
    number("density", std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
    text +=
        "u = Mul(X, shrink) t = Erf(u) e = Mul(xx, minus_half) p = Exp(e) pdf = Mul(p, density)\n"
        "along = Mul(X, pdf) cdf = Add(t, one)\n";
  }
  return text + "twice = Add(cdf, along) slope = Mul(twice, half) dX = Mul(dY, slope)\n";
}

std::vector<OpDef> gelu_rows() {
  using enum PrecisionClass;
  return {
      formula_row("Gelu", follow, kSized<Formula::Gelu>, gelu_gradient,
                  {{"(float[2,3] x) => (float[2,3] y) { y = Gelu(x) }"},
                   {"(float[2,3] x) => (float[2,3] y) { y = Gelu<approximate=\"tanh\">(x) }"}}),
      {.name = "GeluGrad",
       .domain = kOwnDomain,
       .precision = follow,
       .reference = run_formula,
       .cases = {{"(float[2,3] dy, float[2,3] x) => (float[2,3] dx) { dx = ai.halfstep.GeluGrad(dy, x) }"},
                 {"(float[2,3] dy, float[2,3] x) => (float[2,3] dx)"
                  " { dx = ai.halfstep.GeluGrad<approximate = \"tanh\">(dy, x) }"}},
       .schema = gelu_grad_schema},
  };
}

}  // namespace halfstep::ops
