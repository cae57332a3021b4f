// Poolings over windows and their gradients: kernels, gradient rules and the table. Schemas are in pooling_schema.cpp,
// poolings over whole planes in global_pooling.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/convolution/window.h"
#include "ops/families.h"
#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include "ops/pooling/global_pooling.h"
#include "ops/schemas.h"
#include "ops/written_out.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

// Kernels -------------------------------------------------------------------------------------------------------------

/// The pooling of a tensor [N, C, ...]: planes = N * C, each pooled separately.
struct Pooling {
  std::int64_t planes;
  Window window;
  Shape output;

  Pooling(const Attributes& attributes, const Shape& x) {
    const std::vector<std::int64_t> kernel = attributes.get_ints("kernel_shape");
    window = make_window(attributes, spatial(x), kernel);
    planes = x[0] * x[1];
    std::vector<std::int64_t> dims = {x[0], x[1]};
    dims.insert(dims.end(), window.output.end() - static_cast<std::ptrdiff_t>(kernel.size()), window.output.end());
    output = Shape(std::move(dims));
  }

  void check_output(const Shape& y) const {
    if (y != output)
      throw_input_error("a gradient of the pooling's shape " + output.to_string(), y.to_string(),
                        "check the attributes of the gradient of the pooling");
  }
};

/// Calls `at(plane, y_offset, o0, o1, o2)` for every output element; y_offset is relative to the first plane.
template <class F>
void for_each_window(const Pooling& p, F&& at) {
  for (std::int64_t plane = 0; plane < p.planes; ++plane)
    for_each_output(p.window, [&](std::int64_t offset, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
      at(plane, static_cast<std::size_t>(plane * p.window.output_count() + offset), o0, o1, o2);
    });
}

constexpr std::int64_t kNowhere = -1;

/// Position of the first maximum under the window in the plane starting at `plane` (NaN counts as a maximum, as in
/// PyTorch); kNowhere if the window contains only padding.
std::int64_t first_maximum(const Window& w, const double* plane, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
  std::int64_t best = kNowhere;
  for_each_tap(w, o0, o1, o2, [&](std::int64_t i) {
    if (best == kNowhere || plane[i] > plane[best] || (std::isnan(plane[i]) && !std::isnan(plane[best]))) best = i;
  });
  return best;
}

/// The column-major index in a plane of the element at row-major offset `i`.
std::int64_t column_major(const Window& w, std::int64_t i) {
  const std::int64_t i2 = i % w.input[2], i1 = i / w.input[2] % w.input[1], i0 = i / w.input[2] / w.input[1];
  return i0 + w.input[0] * (i1 + w.input[1] * i2);
}

void max_pool_kernel(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Pooling p(call.node.attributes, x.shape());
  const bool columns = call.node.attributes.get_int("storage_order", 0) != 0;
  const std::vector<double> values = to_doubles(x);
  std::vector<double> y(static_cast<std::size_t>(p.output.count()));
  std::vector<std::int64_t> indices(y.size());
  for_each_window(p, [&](std::int64_t plane, std::size_t yi, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
    const std::int64_t first = plane * p.window.input_count();
    const std::int64_t best = first_maximum(p.window, values.data() + first, o0, o1, o2);
    y[yi] = best == kNowhere ? -std::numeric_limits<double>::infinity() : values[first + best];
    indices[yi] = best == kNowhere ? kNowhere : first + (columns ? column_major(p.window, best) : best);
  });
  if (call.has_out(0)) store(ensure_out(call, 0, x.dtype(), p.output), y);
  if (call.has_out(1)) store(ensure_out(call, 1, DType::i64, p.output), indices);
}

void max_pool_grad_kernel(KernelCall& call) {
  const Tensor &dy = call.in[0], &x = call.in[1];
  const Pooling p(call.node.attributes, x.shape());
  p.check_output(dy.shape());
  const std::vector<double> values = to_doubles(x), gradients = to_doubles(dy);
  std::vector<double> dx(values.size());
  for_each_window(p, [&](std::int64_t plane, std::size_t yi, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
    const std::int64_t first = plane * p.window.input_count();
    const std::int64_t best = first_maximum(p.window, values.data() + first, o0, o1, o2);
    if (best != kNowhere) dx[first + best] += gradients[yi];
  });
  store(ensure_out(call, 0, dy.dtype(), x.shape()), dx);
}

/// The divisor of a window's sum: the number of taps inside of the input, or of the padded input. Taps that ceil_mode
/// adds after the end pads are never counted.
std::int64_t divisor(const Window& w, bool include_pad, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
  const Window::Axes o = {o0, o1, o2};
  std::int64_t result = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t end = w.input[axis] + (include_pad ? w.pad_end[axis] : 0);
    const std::int64_t first = include_pad ? 0 : taps_inside(w, axis, o[axis]).first;
    result *= std::max<std::int64_t>(0, taps_before(w, axis, o[axis], end) - first);
  }
  return result;
}

/// The result of every window: finish(window, sum of term(x) over its taps, its place).
template <class Term, class Finish>
void sum_windows(KernelCall& call, const Term& term, const Finish& finish) {
  const Tensor& x = call.in[0];
  const Pooling p(call.node.attributes, x.shape());
  const std::vector<double> values = to_doubles(x);
  std::vector<double> y(static_cast<std::size_t>(p.output.count()));
  for_each_window(p, [&](std::int64_t plane, std::size_t yi, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
    const double* from = values.data() + plane * p.window.input_count();
    double sum = 0;
    for_each_tap(p.window, o0, o1, o2, [&](std::int64_t i) { sum += term(from[i]); });
    y[yi] = finish(p.window, sum, o0, o1, o2);
  });
  store(ensure_out(call, 0, x.dtype(), p.output), y);
}

void average_pool_kernel(KernelCall& call) {
  const bool include_pad = call.node.attributes.get_int("count_include_pad", 0) != 0;
  sum_windows(
      call, [](double x) { return x; },
      [&](const Window& w, double sum, auto... place) {
        const std::int64_t count = divisor(w, include_pad, place...);
        return count == 0 ? 0 : sum / static_cast<double>(count);
      });
}

void average_pool_grad_kernel(KernelCall& call) {
  const Tensor& dy = call.in[0];
  const Shape shape(call.node.attributes.get_ints("input_shape"));
  const Pooling p(call.node.attributes, shape);
  p.check_output(dy.shape());
  const bool include_pad = call.node.attributes.get_int("count_include_pad", 0) != 0;
  const std::vector<double> gradients = to_doubles(dy);
  std::vector<double> dx(static_cast<std::size_t>(shape.count()));
  for_each_window(p, [&](std::int64_t plane, std::size_t yi, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
    double* to = dx.data() + plane * p.window.input_count();
    const std::int64_t count = divisor(p.window, include_pad, o0, o1, o2);
    if (count == 0) return;
    const double share = gradients[yi] / static_cast<double>(count);
    for_each_tap(p.window, o0, o1, o2, [&](std::int64_t i) { to[i] += share; });
  });
  store(ensure_out(call, 0, dy.dtype(), shape), dx);
}

void lp_pool_kernel(KernelCall& call) {
  const double power = norm_order(call.node);
  sum_windows(
      call, [&](double x) { return std::pow(std::abs(x), power); },
      [&](const Window&, double sum, auto...) { return std::pow(sum, 1 / power); });
}

// Gradients -----------------------------------------------------------------------------------------------------------

/// The attributes of a pooling over x for its gradient: explicit pads.
Attributes gradient_attributes(const Attributes& attributes, const Shape& x) {
  Attributes result;
  for (const char* name : {"ceil_mode", "count_include_pad", "dilations", "kernel_shape", "strides"})
    if (const Attribute* value = attributes.find(name)) result.set(name, *value);
  result.set("pads", explicit_pads(attributes, spatial(x), attributes.get_ints("kernel_shape")));
  return result;
}

std::vector<Expr> max_pool_gradient(GradientContext& g) {
  if (!g.dy()) return {};
  return {g.b.own("MaxPoolGrad", {g.dy(), g.in(0)}, gradient_attributes(g.node.attributes, g.in(0).shape()))};
}

Expr average_pool_grad(Expr dy, Attributes attributes, const Shape& x) {
  attributes.set("input_shape", x.dims());
  return dy.builder().own("AveragePoolGrad", {dy}, std::move(attributes));
}

std::vector<Expr> average_pool_gradient(GradientContext& g) {
  const Shape x = g.in(0).shape();
  return {average_pool_grad(g.dy(), gradient_attributes(g.node.attributes, x), x)};
}

/// The same windows with end pads that extend exactly to the end of the last one, so that no tap is outside.
Attributes with_all_taps_padded(Attributes attributes, const Shape& x) {
  const std::size_t axes = spatial(x).size();
  std::vector<std::int64_t> pads = attributes.get_ints("pads");
  const Window w = make_window(attributes, spatial(x), attributes.get_ints("kernel_shape"));
  for (std::size_t i = 0; i < axes; ++i) {
    const std::size_t axis = w.input.size() - axes + i;
    const std::int64_t last = w.position(axis, w.output[axis] - 1, w.kernel[axis] - 1);
    pads[i + axes] = std::max<std::int64_t>(0, last - (w.input[axis] - 1));
  }
  attributes.set("pads", pads);
  attributes.remove("ceil_mode");
  return attributes;
}

/// The attributes of an average that is the sum over LpPool's windows of x, divided by `taps`: every tap is counted.
Attributes sum_attributes(const Node& node, const Shape& x, double& taps) {
  Attributes attributes = with_all_taps_padded(gradient_attributes(node.attributes, x), x);
  attributes.set("count_include_pad", std::int64_t{1});
  taps = 1;
  for (std::int64_t extent : attributes.get_ints("kernel_shape")) taps *= static_cast<double>(extent);
  return attributes;
}

std::vector<Expr> lp_pool_gradient(GradientContext& g) {
  const Expr x = g.in(0);
  const std::int64_t p = g.node.attributes.get_int("p", 2);
  double taps = 1;
  const Attributes attributes = sum_attributes(g.node, x.shape(), taps);
  const Expr spread = average_pool_grad(root_gradient(g.dy(), g.out(0), p) * taps, attributes, x.shape());
  return {signed_power(x, p) * spread};
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kMaxPoolCases = {
    {"(float[2,3,5,4] x) => (float[2,3,4,3] y) { y = MaxPool<kernel_shape = [2, 2]>(x) }"},
    {"(float[1,2,7,7] x) => (float[1,2,4,4] y) "
     "{ y = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x) }"},
    {"(float[1,2,6,5] x) => (float[1,2,3,3] y) "
     "{ y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x) }"},
    {"(float[1,1,6,6] x) => (float[1,1,2,4] y, int64[1,1,2,4] i) "
     "{ y, i = MaxPool<kernel_shape = [3, 2], dilations = [2, 2], storage_order = 1>(x) }"},
    {"(float[2,2,5] x) => (float[2,2,3] y) { y = MaxPool<kernel_shape = [3], strides = [2], auto_pad = "
     "\"SAME_UPPER\">(x) }"},
    {"(float[1,2,3,4,3] x) => (float[1,2,2,2,3] y, int64[1,2,2,2,3] i) "
     "{ y, i = MaxPool<kernel_shape = [2, 2, 2], strides = [1, 2, 1], pads = [0, 0, 1, 0, 0, 0]>(x) }"},
    {"(float[2,2,2,5] x) => (float[2,2,1,2] y) "
     "{ y = MaxPool<kernel_shape = [3, 3], strides = [2, 3], ceil_mode = 1>(x) }"},
    {"(float[0,3,4,4] x) => (float[0,3,2,2] y) { y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"},
};

const std::vector<OpCase> kAveragePoolCases = {
    {"(float[2,3,5,4] x) => (float[2,3,4,3] y) { y = AveragePool<kernel_shape = [2, 2]>(x) }"},
    {"(float[1,2,7,7] x) => (float[1,2,4,4] y) "
     "{ y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x) }"},
    {"(float[1,2,6,5] x) => (float[1,2,3,3] y) "
     "{ y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 0, 1], strides = [2, 2], count_include_pad = 1>(x) }"},
    {"(float[1,2,6,6] x) => (float[1,2,3,3] y) { y = AveragePool"
     "<kernel_shape = [3, 3], pads = [0, 1, 1, 0], strides = [2, 2], ceil_mode = 1, count_include_pad = 1>(x) }"},
    {"(float[1,1,7,6] x) => (float[1,1,3,4] y) { y = AveragePool<kernel_shape = [3, 2], dilations = [2, 2]>(x) }"},
    {"(float[2,2,5] x) => (float[2,2,3] y) "
     "{ y = AveragePool<kernel_shape = [3], strides = [2], auto_pad = \"SAME_LOWER\">(x) }"},
    {"(float[1,2,3,4,3] x) => (float[1,2,2,2,2] y) { y = AveragePool<kernel_shape = [2, 2, 2], strides = [1, 2, 1]>(x) "
     "}"},
    {"(float[2,2,2,5] x) => (float[2,2,1,2] y) "
     "{ y = AveragePool<kernel_shape = [3, 3], strides = [2, 3], ceil_mode = 1>(x) }"},
    {"(float[1,2,2,5] x) => (float[1,2,1,2] y) { y = AveragePool"
     "<kernel_shape = [4, 3], strides = [2, 3], pads = [1, 0, 0, 0], ceil_mode = 1, count_include_pad = 1>(x) }"},
    {"(float[0,3,4,4] x) => (float[0,3,2,2] y) { y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"},
};

const std::vector<OpCase> kLpPoolCases = {
    {"(float[2,3,5,4] x) => (float[2,3,4,3] y) { y = LpPool<kernel_shape = [2, 2]>(x) }"},
    {"(float[1,2,7] x) => (float[1,2,4] y) { y = LpPool<kernel_shape = [3], pads = [1, 1], strides = [2], p = 3>(x) }"},
    {"(float[1,2,4,4] x) => (float[1,2,2,2] y) { y = LpPool<kernel_shape = [2, 2], strides = [2, 2], p = 1>(x) }"},
    {"(float[1,2,6,5] x) => (float[1,2,3,3] y) "
     "{ y = LpPool<kernel_shape = [2, 2], strides = [2, 2], pads = [0, 1, 0, 0], ceil_mode = 1>(x) }"},
    {"(float[1,1,7,5] x) => (float[1,1,3,2] y) "
     "{ y = LpPool<kernel_shape = [3, 3], strides = [3, 3], pads = [1, 0, 1, 0], ceil_mode = 1, p = 3>(x) }"},
    {"(float[1,2,2,5] x) => (float[1,2,1,2] y) "
     "{ y = LpPool<kernel_shape = [3, 3], strides = [2, 3], ceil_mode = 1>(x) }"},
};

const std::vector<OpCase> kMaxPoolGradCases = {
    {"(float[1,2,4,4] dy, float[1,2,7,7] x) => (float[1,2,7,7] dx) { dx = ai.halfstep.MaxPoolGrad"
     "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(dy, x) }"},
    {"(float[1,2,3,3] dy, float[1,2,6,5] x) => (float[1,2,6,5] dx) "
     "{ dx = ai.halfstep.MaxPoolGrad<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(dy, x) }"},
    {"(float[0,2,3] dy, float[0,2,5] x) => (float[0,2,5] dx) { dx = ai.halfstep.MaxPoolGrad<kernel_shape = [3]>(dy, x) "
     "}"},
};
const std::vector<OpCase> kAveragePoolGradCases = {
    {"(float[1,2,4,4] dy) => (float[1,2,7,7] dx) { dx = ai.halfstep.AveragePoolGrad"
     "<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], input_shape = [1, 2, 7, 7]>(dy) }"},
    {"(float[1,2,3,3] dy) => (float[1,2,6,5] dx) { dx = ai.halfstep.AveragePoolGrad<kernel_shape = [2, 2], "
     "strides = [2, 2], ceil_mode = 1, count_include_pad = 1, input_shape = [1, 2, 6, 5]>(dy) }"},
    {"(float[0,2,3] dy) => (float[0,2,5] dx) "
     "{ dx = ai.halfstep.AveragePoolGrad<kernel_shape = [3], input_shape = [0, 2, 5]>(dy) }"},
};

std::vector<OpDef> make_rows() {
  constexpr PrecisionClass follow = PrecisionClass::follow;
  std::vector<OpDef> rows = {
      onnx_row("MaxPool", follow,
               {.extremes = Extremes::picked, .features = FeatureAxis::second, .magnitude = magnitude::same},
               max_pool_kernel, max_pool_gradient, kMaxPoolCases, kMaximumTies),
      onnx_row("AveragePool", follow, {.features = FeatureAxis::second, .magnitude = magnitude::same},
               average_pool_kernel, average_pool_gradient, kAveragePoolCases),
      onnx_row("LpPool", PrecisionClass::full, {.features = FeatureAxis::second}, lp_pool_kernel, lp_pool_gradient,
               kLpPoolCases, "the gradient is 0 where the norm is 0"),
      {.name = "MaxPoolGrad",
       .domain = kOwnDomain,
       .precision = follow,
       .reference = max_pool_grad_kernel,
       .cases = kMaxPoolGradCases,
       .schema = max_pool_grad_schema,
       .note = kMaximumTies},
      {.name = "AveragePoolGrad",
       .domain = kOwnDomain,
       .precision = follow,
       .reference = average_pool_grad_kernel,
       .cases = kAveragePoolGradCases,
       .schema = average_pool_grad_schema},
  };
  const std::span<const OpDef> global = global_pooling_ops();
  rows.insert(rows.end(), global.begin(), global.end());
  return rows;
}

}  // namespace

Expr lp_pool_by_average(Builder& b, const Node& node) {
  const auto p = static_cast<std::int64_t>(norm_order(node));
  return in_wide(b, node, [&](Expr x) {
    double taps = 1;
    const Attributes attributes = sum_attributes(node, x.shape(), taps);
    return root(b.op("AveragePool", {absolute_power(x, p)}, attributes) * taps, p);
  });
}

std::span<const OpDef> pooling_ops() {
  static const std::vector<OpDef> rows = make_rows();
  return rows;
}

}  // namespace halfstep::ops
