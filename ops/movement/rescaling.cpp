#include "ops/movement/rescaling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include "ops/written_out.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/gradient_util.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

Expr mean(Expr x, Expr axes) { return x.builder().op("ReduceMean", {x, axes}); }
Expr sum(Expr x, Expr axes) { return x.builder().op("ReduceSum", {x, axes}); }
/// The first element along each of the axes, which stay.
Expr first_along(Expr x, Expr axes) {
  Builder& b = x.builder();
  const auto count = static_cast<std::size_t>(axes.shape().count());
  return b.op("Slice",
              {x, b.ints(std::vector<std::int64_t>(count, 0)), b.ints(std::vector<std::int64_t>(count, 1)), axes});
}
Expr square_root(Expr x) { return x.builder().op("Sqrt", {x}); }

// RMSNormalization ----------------------------------------------------------------------------------------------------

std::size_t first_axis(const Node& node, const Shape& shape) {
  return normalize_axis(node.attributes.get_int("axis", -1), shape.rank());
}

void rms_normalization(KernelCall& call) {
  const Tensor &x = call.in[0], &scale = call.in[1];
  const Shape& shape = x.shape();
  if (broadcast(scale.shape(), shape) != shape)
    throw_input_error("a scale that broadcasts to " + shape.to_string(), scale.shape().to_string(),
                      "check the shapes of the normalization's parameters");
  const double epsilon = call.node.attributes.get_float("epsilon", 1e-5f);
  const auto length = static_cast<std::size_t>(shape.count(first_axis(call.node, shape), shape.rank()));
  std::vector<double> y = to_doubles(x);
  const std::vector<double> scales = to_doubles(scale);
  const BroadcastOffsets scale_at(scale.shape(), shape);
  for (std::size_t first = 0; first < y.size(); first += length) {
    double squares = 0;
    for (std::size_t i = first; i < first + length; ++i) squares += y[i] * y[i];
    const double factor = 1 / std::sqrt(squares / static_cast<double>(length) + epsilon);
    for (std::size_t i = first; i < first + length; ++i)
      y[i] *= factor * scales[scale_at(static_cast<std::int64_t>(i))];
  }
  store(ensure_out(call, 0, scale.dtype(), shape), y);
}

Gradients rms_normalization_gradient(GradientContext& g) {
  const DType type = wide(g.in(0).dtype());
  const Expr x = g.b.cast(g.in(0), type), scale = g.b.cast(g.in(1), type), dy = g.b.cast(g.dy(), type);
  std::vector<std::int64_t> over(x.rank() - first_axis(g.node, x.shape()));
  std::iota(over.begin(), over.end(), -static_cast<std::int64_t>(over.size()));
  const Expr axes = g.b.ints(over);
  const Expr inverse = 1.0 / square_root(mean(x * x, axes) + g.node.attributes.get_float("epsilon", 1e-5f));
  const Expr normalized = x * inverse;
  Gradients d(2);
  if (g.wants(0)) {
    const Expr scaled = dy * scale;
    d[0] = g.b.cast(inverse * (scaled - normalized * mean(scaled * normalized, axes)), g.in(0).dtype());
  }
  if (g.wants(1)) d[1] = g.b.cast(g.b.sum_to(dy * normalized, scale.shape()), g.in(1).dtype());
  return d;
}

// LpNormalization -----------------------------------------------------------------------------------------------------

std::int64_t order_of(const Node& node) {
  const std::int64_t p = node.attributes.get_int("p", 2);
  if (p != 1 && p != 2) throw_input_error("an LpNormalization with p 1 or 2", std::to_string(p), "correct the model");
  return p;
}

void lp_normalization(KernelCall& call) {
  const Tensor& x = call.in[0];
  const std::int64_t p = order_of(call.node);
  const AxisView view(x.shape(), normalize_axis(call.node.attributes.get_int("axis", -1), x.shape().rank()));
  std::vector<double> y = to_doubles(x);
  view.for_each_line([&](std::int64_t start, std::int64_t step) {
    auto at = [&](std::int64_t i) -> double& { return y[start + i * step]; };
    double norm = 0;
    for (std::int64_t i = 0; i < view.extent; ++i) norm += p == 1 ? std::abs(at(i)) : at(i) * at(i);
    if (p == 2) norm = std::sqrt(norm);
    for (std::int64_t i = 0; i < view.extent; ++i) at(i) = norm == 0 ? 0 : at(i) / norm;
  });
  store(ensure_out(call, 0, x.dtype(), x.shape()), y);
}

/// The norms of x, whether they are 0, and what x is divided by. If a norm is 0, every x is 0: any divisor is correct.
struct Norm {
  Expr axes, is_zero, divisor;

  Norm(Expr x, const Node& node) : axes(x.builder().ints({node.attributes.get_int("axis", -1)})) {
    const Expr norm = x.builder().op(order_of(node) == 1 ? "ReduceL1" : "ReduceL2", {x, axes});
    is_zero = x.builder().op("Equal", {norm, zero_like(norm)});
    divisor = select(is_zero, x.builder().scalar(1, x.dtype()), norm);
  }
};

Gradients lp_normalization_gradient(GradientContext& g) {
  const DType type = wide(g.in(0).dtype());
  const Expr x = g.b.cast(g.in(0), type), dy = g.b.cast(g.dy(), type);
  const auto [axes, is_zero, divisor] = Norm(x, g.node);
  const Expr y = x / divisor, direction = order_of(g.node) == 1 ? g.b.op("Sign", {x}) : y;
  const Expr dx = (dy - direction * sum(dy * y, axes)) / divisor;
  return {g.b.cast(select(is_zero, zero_like(dx), dx), g.in(0).dtype())};
}

// MeanVarianceNormalization -------------------------------------------------------------------------------------------

/// The constant that ONNX's function body adds to the standard deviation.
constexpr double kDeviationFloor = 1e-9;

/// None named are all, as in the means of ONNX's function body.
std::vector<std::int64_t> moment_axes(const Node& node, std::size_t rank) {
  std::vector<std::int64_t> axes = node.attributes.get_ints("axes", {0, 2, 3});
  if (axes.empty()) axes.resize(rank), std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

void mean_variance_normalization(KernelCall& call) {
  const Tensor& x = call.in[0];
  Shape reduced = x.shape();
  for (std::size_t axis : normalize_axes(moment_axes(call.node, reduced.rank()), reduced.rank())) reduced[axis] = 1;
  const BroadcastOffsets group_of(reduced, x.shape());
  std::vector<double> y = to_doubles(x);
  std::vector<double> means(static_cast<std::size_t>(reduced.count())), squares(means.size());
  const double count = static_cast<double>(y.size()) / static_cast<double>(means.size());
  auto for_each = [&](auto&& f) {
    for (std::size_t i = 0; i < y.size(); ++i)
      f(y[i], static_cast<std::size_t>(group_of(static_cast<std::int64_t>(i))));
  };
  for_each([&](double v, std::size_t group) { means[group] += v / count; });
  for_each([&](double& v, std::size_t group) {
    v -= means[group];
    squares[group] += v * v;
  });
  for_each([&](double& v, std::size_t group) { v /= std::sqrt(squares[group] / count) + kDeviationFloor; });
  store(ensure_out(call, 0, x.dtype(), x.shape()), y);
}

/// Distances from the first element come first: where all are equal the mean is exact, and what is left is 0.
struct Centred {
  Expr axes, centred, deviation, divisor;

  Centred(Expr x, const Node& node)
      : axes(x.builder().ints(moment_axes(node, x.rank()))), centred(x - first_along(x, axes)) {
    centred = centred - mean(centred, axes);
    deviation = square_root(mean(centred * centred, axes));
    divisor = deviation + kDeviationFloor;
  }
};

Gradients mean_variance_normalization_gradient(GradientContext& g) {
  const DType type = wide(g.in(0).dtype());
  const Expr x = g.b.cast(g.in(0), type), dy = g.b.cast(g.dy(), type);
  const auto [axes, centred, deviation, divisor] = Centred(x, g.node);
  // The deviation changes in this direction; not with the constant, which weighs where the deviation is small.
  const Expr is_zero = g.b.op("Equal", {deviation, zero_like(deviation)}), ratio = centred / deviation;
  const Expr direction = select(is_zero, zero_like(ratio), ratio);
  return {
      g.b.cast((dy - mean(dy, axes) - direction * mean(dy * (centred / divisor), axes)) / divisor, g.in(0).dtype())};
}

// LRN -----------------------------------------------------------------------------------------------------------------

/// y = x / (bias + alpha / size * sum of x^2 over `before` channels before and `after` channels after)^beta.
struct Response {
  std::int64_t size, before, after;
  double alpha, beta, bias;

  explicit Response(const Node& node)
      : size(node.attributes.get_int("size", 0)),
        before((size - 1) / 2),
        after(size - 1 - before),
        alpha(node.attributes.get_float("alpha", 1e-4f)),
        beta(node.attributes.get_float("beta", 0.75f)),
        bias(node.attributes.get_float("bias", 1)) {
    if (size < 1) throw_input_error("an LRN of size 1 or more", std::to_string(size), "correct the model");
  }
};

void check_has_channels(const Shape& x) {
  if (x.rank() < 2)
    throw_input_error("a tensor of shape [N, C, D1, ...]", x.to_string(), "add the batch and channel axes");
}

void lrn(KernelCall& call) {
  const Tensor& x = call.in[0];
  check_has_channels(x.shape());
  const Response r(call.node);
  const AxisView view(x.shape(), 1);
  const std::vector<double> values = to_doubles(x);
  std::vector<double> y(values.size());
  view.for_each_line([&](std::int64_t start, std::int64_t step) {
    auto index = [&](std::int64_t c) { return static_cast<std::size_t>(start + c * step); };
    for (std::int64_t c = 0; c < view.extent; ++c) {
      double squares = 0;
      const std::int64_t last = std::min(c + std::min(r.after, view.extent), view.extent - 1);
      for (std::int64_t k = std::max<std::int64_t>(0, c - r.before); k <= last; ++k)
        squares += values[index(k)] * values[index(k)];
      y[index(c)] = values[index(c)] / std::pow(r.bias + r.alpha / static_cast<double>(r.size) * squares, r.beta);
    }
  });
  store(ensure_out(call, 0, x.dtype(), x.shape()), y);
}

/// The tensor with the channels as the rows of an image, so that pooling gives means over neighbouring ones.
Shape channel_rows(const Shape& x) { return {x[0], 1, x[1], x.count(2, x.rank())}; }

/// The mean over `size` channels, with zeros for those outside of the tensor.
Expr window_mean(const Response& r, Expr rows, std::int64_t before, std::int64_t after) {
  return rows.builder().op("AveragePool", {rows},
                           {{"kernel_shape", std::vector<std::int64_t>{r.size, 1}},
                            {"pads", std::vector<std::int64_t>{before, 0, after, 0}},
                            {"count_include_pad", std::int64_t{1}}});
}
Expr response_base(const Response& r, Expr rows) {
  return window_mean(r, rows * rows, r.before, r.after) * r.alpha + r.bias;
}
Expr divided(const Response& r, Expr x, Expr base) {
  return x / x.builder().op("Pow", {base, x.builder().scalar(r.beta, x.dtype())});
}

Gradients lrn_gradient(GradientContext& g) {
  const Shape shape = g.in(0).shape();
  if (shape.count() == 0) return {g.dy()};  // pooling does not support empty axes
  const DType type = wide(g.in(0).dtype());
  const Response r(g.node);
  const Shape rows = channel_rows(shape);
  const Expr x = g.b.reshape(g.b.cast(g.in(0), type), rows), dy = g.b.reshape(g.b.cast(g.dy(), type), rows);
  const Expr base = response_base(r, x), direct = divided(r, dy, base);
  // Channel k is in the window of c as c is in the mirrored window of k.
  const Expr others = window_mean(r, direct * x / base, r.after, r.before) * (2 * r.alpha * r.beta);
  return {g.b.cast(g.b.reshape(direct - x * others, shape), g.in(0).dtype())};
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kRmsNormalizationCases = {
    {"(float[3,5] x, float[5] s) => (float[3,5] y) { y = RMSNormalization(x, s) }"},
    {"(float[2,3,5] x, float[3,5] s) => (float[2,3,5] y) { y = RMSNormalization<axis = 1, epsilon = 0.01>(x, s) }"},
    {"(float[2,3,5] x, float[1] s) => (float[2,3,5] y) { y = RMSNormalization<axis = -2>(x, s) }"},
    {"(float[0,5] x, float[5] s) => (float[0,5] y) { y = RMSNormalization(x, s) }"},
};

const std::vector<OpCase> kLpNormalizationCases = {
    {"(float[3,5] x) => (float[3,5] y) { y = LpNormalization(x) }"},
    {"(float[2,3,4] x) => (float[2,3,4] y) { y = LpNormalization<axis = 1, p = 1>(x) }"},
    {"(float[2,3,4] x) => (float[2,3,4] y) { y = LpNormalization<axis = 0, p = 2>(x) }"},
    {"(float[0,3] x) => (float[0,3] y) { y = LpNormalization(x) }"},
};

const std::vector<OpCase> kMeanVarianceNormalizationCases = {
    {"(float[2,3,4,5] x) => (float[2,3,4,5] y) { y = MeanVarianceNormalization(x) }"},
    {"(float[3,5] x) => (float[3,5] y) { y = MeanVarianceNormalization<axes = [-1]>(x) }"},
    {"(float[2,5] x) => (float[2,5] y) { y = MeanVarianceNormalization<axes: ints = []>(x) }"},
    {"(float[3,0] x) => (float[3,0] y) { y = MeanVarianceNormalization<axes = [0]>(x) }"},
};

/// Of a few elements that lie close together finite differences do not tell the gradient.
bool normalizes_many(const Graph& graph, const Node& node) {
  const Shape& x = graph[node.inputs[0]].shape;
  std::int64_t count = 1;
  for (const std::int64_t axis : moment_axes(node, x.rank())) count *= x[normalize_axis(axis, x.rank())];
  return count == 0 || count > 4;
}

const std::vector<OpCase> kLrnCases = {
    {"(float[2,5,3,2] x) => (float[2,5,3,2] y) { y = LRN<size = 3>(x) }"},
    {"(float[1,7,2,3] x) => (float[1,7,2,3] y) { y = LRN<size = 4, alpha = 0.5, beta = 0.6, bias = 2.0>(x) }"},
    {"(float[2,2,3] x) => (float[2,2,3] y) { y = LRN<size = 9, alpha = 0.1>(x) }"},
    {"(float[0,3,2,2] x) => (float[0,3,2,2] y) { y = LRN<size = 3>(x) }"},
    {"(float[2,0,2,2] x) => (float[2,0,2,2] y) { y = LRN<size = 3>(x) }"},
};

}  // namespace

Expr lp_normalization_by_norm(Builder& b, const Node& node) {
  return in_wide(b, node, [&](Expr x) {
    const auto [axes, is_zero, divisor] = Norm(x, node);
    return x / divisor;
  });
}

Expr mean_variance_normalization_by_means(Builder& b, const Node& node) {
  return in_wide(b, node, [&](Expr x) {
    const Centred c(x, node);
    return c.centred / c.divisor;
  });
}

Expr lrn_by_pooling(Builder& b, const Node& node) {
  return in_wide(b, node, [&](Expr x) {
    check_has_channels(x.shape());
    const Response r(node);
    const Expr rows = b.reshape(x, channel_rows(x.shape()));
    return b.reshape(divided(r, rows, response_base(r, rows)), x.shape());
  });
}

std::span<const OpDef> rescaling_ops() {
  static const OpDef rows[] = {
      onnx_row("RMSNormalization", PrecisionClass::follow,
               {.operands = {OperandRole::data, OperandRole::scale},
                .one_type = true,
                .magnitude = magnitude::normalization},
               rms_normalization, rms_normalization_gradient, kRmsNormalizationCases),
      onnx_row("LpNormalization", PrecisionClass::full, {}, lp_normalization, lp_normalization_gradient,
               kLpNormalizationCases, "result and gradient are 0 where the norm is 0"),
      {.name = "MeanVarianceNormalization",
       .precision = PrecisionClass::full,  // the constants of its function body, which runtimes use, are f32
       .reference = mean_variance_normalization,
       .gradient = mean_variance_normalization_gradient,
       // Its schema has no inference function.
       .result_shape = [](const Node&, std::span<const Shape> operands) { return operands[0]; },
       .cases = kMeanVarianceNormalizationCases,
       .variations = {.fits = normalizes_many},
       .note = "the deviation plus 1e-9 divides; where it is 0 the gradient is that of the mean alone"},
      onnx_row("LRN", PrecisionClass::full, {.features = FeatureAxis::second}, lrn, lrn_gradient, kLrnCases),
  };
  return rows;
}

}  // namespace halfstep::ops
