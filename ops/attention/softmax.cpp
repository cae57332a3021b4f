// Softmax and related operators on whole lines along an axis.
#include <algorithm>
#include <cmath>

#include "ops/family_parts.h"
#include "ops/gradient_schema.h"
#include "ops/onnx_row.h"
#include "ops/schema_util.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

/// Calls f(line of in[0], line of in[1] or empty) for each line along `axis`; f overwrites the first, which is the
/// result.
template <class F>
void map_lines(KernelCall& call, F f) {
  const Shape& shape = call.in[0].shape();
  std::vector<double> y = to_doubles(call.in[0]);
  const std::vector<double> other = call.has_in(1) ? to_doubles(call.in[1]) : std::vector<double>();
  const AxisView view(shape, normalize_axis(call.node.attributes.get_int("axis", -1), shape.rank()));
  std::vector<double> line(static_cast<std::size_t>(view.extent)), other_line(other.empty() ? 0 : line.size());
  view.for_each_line([&](std::int64_t start, std::int64_t step) {
    auto at = [&](std::size_t i) { return static_cast<std::size_t>(start + static_cast<std::int64_t>(i) * step); };
    for (std::size_t i = 0; i < line.size(); ++i) line[i] = y[at(i)];
    for (std::size_t i = 0; i < other_line.size(); ++i) other_line[i] = other[at(i)];
    f(std::span<double>(line), std::span<const double>(other_line));
    for (std::size_t i = 0; i < line.size(); ++i) y[at(i)] = line[i];
  });
  store(ensure_out(call, 0, call.in[0].dtype(), shape), std::span<const double>(y));
}

void softmax(KernelCall& call) {
  map_lines(call, [](std::span<double> x, std::span<const double>) {
    if (x.empty()) return;
    const double top = *std::ranges::max_element(x);
    double total = 0;
    for (double& v : x) total += v = std::exp(v - top);
    for (double& v : x) v /= total;
  });
}
void log_softmax(KernelCall& call) {
  map_lines(call, [](std::span<double> x, std::span<const double>) {
    if (x.empty()) return;
    const double top = *std::ranges::max_element(x);
    double total = 0;
    for (double v : x) total += std::exp(v - top);
    const double shift = top + std::log(total);
    for (double& v : x) v -= shift;
  });
}
void hardmax(KernelCall& call) {
  map_lines(call, [](std::span<double> x, std::span<const double>) {
    if (x.empty()) return;
    const auto less = [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };  // NaN is largest
    const auto top = std::ranges::max_element(x, less) - x.begin();
    std::ranges::fill(x, 0);
    x[top] = 1;
  });
}
void softmax_grad(KernelCall& call) {
  map_lines(call, [](std::span<double> dy, std::span<const double> y) {
    double total = 0;
    for (std::size_t i = 0; i < dy.size(); ++i) total += dy[i] * y[i];
    for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = (dy[i] - total) * y[i];
  });
}
void log_softmax_grad(KernelCall& call) {
  map_lines(call, [](std::span<double> dy, std::span<const double> y) {
    double total = 0;
    for (double v : dy) total += v;
    for (std::size_t i = 0; i < dy.size(); ++i) dy[i] -= std::exp(y[i]) * total;
  });
}

Attributes axis_of(const GradientContext& g) { return {{"axis", g.node.attributes.get_int("axis", -1)}}; }
Gradients softmax_gradient(GradientContext& g) { return {g.b.own("SoftmaxGrad", {g.dy(), g.out(0)}, axis_of(g))}; }
Gradients log_softmax_gradient(GradientContext& g) {
  return {g.b.own("LogSoftmaxGrad", {g.dy(), g.out(0)}, axis_of(g))};
}

onnx::OpSchema& softmax_schema(onnx::OpSchema& schema, const char* doc, const char* about) {
  return gradient_schema(schema, doc, "Y", about)
      .Attr("axis", "The axis the forward operator ran along.", onnx::AttributeProto::INT, std::int64_t{-1});
}
std::string axis_as_tensor(const onnx::FunctionBodyBuildContext& call) {
  return "axes = Constant<value_ints = " + text_of({int_of(call, "axis", -1)}) + ">() ";
}
void softmax_grad_schema(onnx::OpSchema& schema) {
  softmax_schema(schema, "Gradient of Softmax: Y * (dY - sum(dY * Y)) along axis.", "Softmax's output.");
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    return axis_as_tensor(call) +
           "product = Mul(dY, Y) total = ReduceSum<keepdims = 1>(product, axes) "
           "centred = Sub(dY, total) dX = Mul(centred, Y)";
  });
}
void log_softmax_grad_schema(onnx::OpSchema& schema) {
  softmax_schema(schema, "Gradient of LogSoftmax: dY - exp(Y) * sum(dY) along axis.", "LogSoftmax's output.");
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    return axis_as_tensor(call) +
           "total = ReduceSum<keepdims = 1>(dY, axes) probability = Exp(Y) "
           "share = Mul(probability, total) dX = Sub(dY, share)";
  });
}

}  // namespace

std::vector<OpDef> softmax_rows() {
  using enum PrecisionClass;
  constexpr OpTraits kAlongAxis{.extremes = Extremes::picked, .features = FeatureAxis::attribute};
  return {
      onnx_row("Softmax", full, kAlongAxis, softmax, softmax_gradient,
               {{"(float[2,5] x) => (float[2,5] y) { y = Softmax(x) }"},
                {"(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=1>(x) }"},
                {"(float[3,2] x) => (float[3,2] y) { y = Softmax<axis=-2>(x) }"},
                {"(float[0,3] x) => (float[0,3] y) { y = Softmax(x) }"}}),
      onnx_row("LogSoftmax", full, kAlongAxis, log_softmax, log_softmax_gradient,
               {{"(float[2,5] x) => (float[2,5] y) { y = LogSoftmax(x) }"},
                {"(float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax<axis=1>(x) }"},
                {"(float[3,2] x) => (float[3,2] y) { y = LogSoftmax<axis=-2>(x) }"}}),
      onnx_row("Hardmax", follow, kAlongAxis, hardmax, no_gradient,
               {{"(float[2,5] x) => (float[2,5] y) { y = Hardmax(x) }", -2, 2, false},
                {"(float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax<axis=1>(x) }", -2, 2, false}},
               "NaN counts as the largest"),
      {.name = "SoftmaxGrad",
       .domain = kOwnDomain,
       .reference = softmax_grad,
       .cases = {{"(float[2,5] dy, float[2,5] x) => (float[2,5] dx)"
                  " { y = Softmax(x) dx = ai.halfstep.SoftmaxGrad(dy, y) }"},
                 {"(float[2,3,4] dy, float[2,3,4] x) => (float[2,3,4] dx)"
                  " { y = Softmax<axis=1>(x) dx = ai.halfstep.SoftmaxGrad<axis=1>(dy, y) }"}},
       .schema = softmax_grad_schema},
      {.name = "LogSoftmaxGrad",
       .domain = kOwnDomain,
       .reference = log_softmax_grad,
       .cases = {{"(float[2,5] dy, float[2,5] x) => (float[2,5] dx)"
                  " { y = LogSoftmax(x) dx = ai.halfstep.LogSoftmaxGrad(dy, y) }"},
                 {"(float[2,3,4] dy, float[2,3,4] x) => (float[2,3,4] dx)"
                  " { y = LogSoftmax<axis=1>(x) dx = ai.halfstep.LogSoftmaxGrad<axis=1>(dy, y) }"}},
       .schema = log_softmax_grad_schema},
  };
}

}  // namespace halfstep::ops
