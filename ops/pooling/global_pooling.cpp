#include "ops/pooling/global_pooling.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "ops/convolution/window.h"
#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include "ops/written_out.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {

double norm_order(const Node& node) {
  const std::int64_t p = node.attributes.get_int("p", 2);
  if (p < 1) throw_input_error("attribute p of at least 1", std::to_string(p), "correct the model");
  return static_cast<double>(p);
}

Expr signed_power(Expr x, std::int64_t p) {
  if (p == 2) return x;
  Builder& b = x.builder();
  const Expr sign = b.op("Sign", {x});
  return p == 1 ? sign : sign * b.op("Pow", {b.op("Abs", {x}), b.scalar(static_cast<double>(p - 1), x.dtype())});
}

Expr absolute_power(Expr x, std::int64_t p) {
  Builder& b = x.builder();
  if (p == 2) return x * x;
  const Expr absolute = b.op("Abs", {x});
  return p == 1 ? absolute : b.op("Pow", {absolute, b.scalar(static_cast<double>(p), x.dtype())});
}

Expr root(Expr x, std::int64_t p) {
  Builder& b = x.builder();
  if (p == 1) return x;
  return p == 2 ? b.op("Sqrt", {x}) : b.op("Pow", {x, b.scalar(1 / static_cast<double>(p), x.dtype())});
}

Expr root_gradient(Expr dy, Expr y, std::int64_t p) {
  if (p == 1) return dy;
  Builder& b = y.builder();
  const Expr zero = b.scalar(0, y.dtype());
  const Expr is_zero = b.op("Equal", {y, zero});
  const Expr safe = b.op("Where", {is_zero, b.scalar(1, y.dtype()), y});
  const Expr slope = dy / b.op("Pow", {safe, b.scalar(static_cast<double>(p - 1), y.dtype())});
  return b.op("Where", {is_zero, zero, slope});
}

namespace {

// Kernels -------------------------------------------------------------------------------------------------------------

/// y[n, c] = reduce(first, last) over each plane; the result has spatial extents of 1.
template <class F>
void pool_globally(KernelCall& call, F&& reduce) {
  const Tensor& x = call.in[0];
  const auto axes = spatial(x.shape()).size();  // checks the rank
  const std::int64_t plane = x.shape().count(2, axes + 2);
  std::vector<std::int64_t> dims(axes + 2, 1);
  dims[0] = x.shape()[0];
  dims[1] = x.shape()[1];
  const std::vector<double> values = to_doubles(x);
  std::vector<double> y;
  for (std::int64_t i = 0; i < dims[0] * dims[1]; ++i)
    y.push_back(reduce(values.data() + i * plane, values.data() + (i + 1) * plane));
  store(ensure_out(call, 0, x.dtype(), Shape(dims)), y);
}

void global_average_pool_kernel(KernelCall& call) {
  pool_globally(call, [](const double* first, const double* last) {
    double sum = 0;
    for (const double* p = first; p != last; ++p) sum += *p;
    return sum / static_cast<double>(last - first);
  });
}

void global_max_pool_kernel(KernelCall& call) {
  const Shape& x = call.in[0].shape();
  if (x.count(2, x.rank()) == 0 && x.count(0, 2) > 0)
    throw_input_error("at least one element for each channel to take the maximum of", x.to_string(),
                      "check the shapes fed to this operator");
  pool_globally(call, [](const double* first, const double* last) {
    double best = -std::numeric_limits<double>::infinity();
    for (const double* p = first; p != last; ++p)
      if (*p > best || std::isnan(*p)) best = *p;
    return best;
  });
}

void global_lp_pool_kernel(KernelCall& call) {
  const double power = norm_order(call.node);
  pool_globally(call, [power](const double* first, const double* last) {
    double sum = 0;
    for (const double* p = first; p != last; ++p) sum += std::pow(std::abs(*p), power);
    return std::pow(sum, 1 / power);
  });
}

// Gradients -----------------------------------------------------------------------------------------------------------

Expr expand(Expr x, const Shape& shape) { return x.builder().op("Expand", {x, x.builder().ints(shape.dims())}); }

std::vector<Expr> global_average_pool_gradient(GradientContext& g) {
  const Shape x = g.in(0).shape();
  return {expand(g.dy() / static_cast<double>(x.count(2, x.rank())), x)};
}

std::vector<Expr> global_max_pool_gradient(GradientContext& g) {
  const Shape x = g.in(0).shape();
  if (x.count() == 0) return {g.b.zeros_like(g.in(0))};
  if (x.rank() > 5) {  // more spatial axes than windows have
    const std::int64_t plane = x.count(2, x.rank());
    const Expr dx =
        g.b.own("MaxPoolGrad", {g.b.reshape(g.dy(), {x[0], x[1], 1}), g.b.reshape(g.in(0), {x[0], x[1], plane})},
                {{"kernel_shape", std::vector<std::int64_t>{plane}}});
    return {g.b.reshape(dx, x)};
  }
  const std::span<const std::int64_t> extents = spatial(x);
  return {g.b.own("MaxPoolGrad", {g.dy(), g.in(0)},
                  {{"kernel_shape", std::vector<std::int64_t>(extents.begin(), extents.end())}})};
}

std::vector<Expr> global_lp_pool_gradient(GradientContext& g) {
  const std::int64_t p = g.node.attributes.get_int("p", 2);
  return {signed_power(g.in(0), p) * root_gradient(g.dy(), g.out(0), p)};
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kGlobalAveragePoolCases = {
    {"(float[2,3,5,4] x) => (float[2,3,1,1] y) { y = GlobalAveragePool(x) }"},
    {"(float[2,3,7] x) => (float[2,3,1] y) { y = GlobalAveragePool(x) }"},
    {"(float[0,3,2,2,2] x) => (float[0,3,1,1,1] y) { y = GlobalAveragePool(x) }"},
};
const std::vector<OpCase> kGlobalMaxPoolCases = {
    {"(float[2,3,5,4] x) => (float[2,3,1,1] y) { y = GlobalMaxPool(x) }"},
    {"(float[2,3,7] x) => (float[2,3,1] y) { y = GlobalMaxPool(x) }"},
    {"(float[0,3,2,2,2] x) => (float[0,3,1,1,1] y) { y = GlobalMaxPool(x) }"},
    {"(float[1,2,2,3,2,3] x) => (float[1,2,1,1,1,1] y) { y = GlobalMaxPool(x) }"},
};
const std::vector<OpCase> kGlobalLpPoolCases = {
    {"(float[2,3,5,4] x) => (float[2,3,1,1] y) { y = GlobalLpPool(x) }"},
    {"(float[2,3,7] x) => (float[2,3,1] y) { y = GlobalLpPool<p = 3>(x) }"},
    {"(float[2,3,7] x) => (float[2,3,1] y) { y = GlobalLpPool<p = 1>(x) }"},
};

}  // namespace

Expr global_lp_pool_by_sum(Builder& b, const Node& node) {
  const auto p = static_cast<std::int64_t>(norm_order(node));
  const Shape& shape = b.graph()[node.inputs[0]].shape;
  if (shape.is_static() && shape.rank() < 3) return {};  // to sum over no axes would be to sum over all
  return in_wide(b, node, [&](Expr x) {
    std::vector<std::int64_t> axes(x.rank() - 2);
    std::iota(axes.begin(), axes.end(), 2);
    return root(b.reduce_sum(absolute_power(x, p), axes, true), p);
  });
}

std::span<const OpDef> global_pooling_ops() {
  static const OpDef rows[] = {
      onnx_row("GlobalAveragePool", PrecisionClass::follow,
               {.features = FeatureAxis::second, .magnitude = magnitude::same}, global_average_pool_kernel,
               global_average_pool_gradient, kGlobalAveragePoolCases),
      onnx_row("GlobalMaxPool", PrecisionClass::follow,
               {.extremes = Extremes::picked, .features = FeatureAxis::second, .magnitude = magnitude::same},
               global_max_pool_kernel, global_max_pool_gradient, kGlobalMaxPoolCases, kMaximumTies),
      onnx_row("GlobalLpPool", PrecisionClass::full, {.features = FeatureAxis::second}, global_lp_pool_kernel,
               global_lp_pool_gradient, kGlobalLpPoolCases, "the gradient is 0 where the norm is 0"),
  };
  return rows;
}

}  // namespace halfstep::ops
