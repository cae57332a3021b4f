// LayerNormalization, InstanceNormalization, GroupNormalization; and the list of the whole family, whose larger members
// have separate files.
#include <cmath>

#include <fmt/format.h>

#include "ops/families.h"
#include "ops/magnitude.h"
#include "ops/movement/rescaling.h"
#include "ops/normalization/batch_normalization.h"
#include "ops/normalization/layer_normalization_grad.h"
#include "ops/random/dropout.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/gradient_util.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

// Kernels -------------------------------------------------------------------------------------------------------------

double epsilon_of(const Node& node) { return node.attributes.get_float("epsilon", 1e-5f); }

/// Normalizes rows of `length` elements to zero mean and unit (biased) variance, in place.
struct Rows {
  std::vector<double> values, mean, inverse_deviation;

  Rows(const Tensor& x, std::int64_t length, double epsilon) : values(to_doubles(x)) {
    if (values.empty() || length == 0) return;
    const auto n = static_cast<std::size_t>(length);
    for (std::size_t first = 0; first < values.size(); first += n) {
      const std::span row(values.data() + first, n);
      double sum = 0, squares = 0;
      for (double v : row) sum += v;
      const double m = sum / static_cast<double>(n);
      for (double v : row) squares += (v - m) * (v - m);
      const double r = 1 / std::sqrt(squares / static_cast<double>(n) + epsilon);
      for (double& v : row) v = (v - m) * r;
      mean.push_back(m);
      inverse_deviation.push_back(r);
    }
  }
};

void layer_normalization_kernel(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Shape& shape = x.shape();
  const std::size_t axis = normalize_axis(call.node.attributes.get_int("axis", -1), shape.rank());
  Rows rows(x, shape.count(axis, shape.rank()), epsilon_of(call.node));

  for (std::size_t i = 1; i <= 2; ++i)
    if (call.has_in(i) && broadcast(call.in[i].shape(), shape) != shape)
      throw_input_error("scale and bias that broadcast to " + shape.to_string(), call.in[i].shape().to_string(),
                        "check the shapes of the normalization's parameters");
  const std::vector<double> scale = to_doubles(call.in[1]);
  const std::vector<double> bias = call.has_in(2) ? to_doubles(call.in[2]) : std::vector<double>{0};
  const BroadcastOffsets scale_at(call.in[1].shape(), shape),
      bias_at(call.has_in(2) ? call.in[2].shape() : Shape{}, shape);
  for (std::size_t i = 0; i < rows.values.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    rows.values[i] = rows.values[i] * scale[scale_at(index)] + bias[bias_at(index)];
  }
  if (call.has_out(0)) store(ensure_out(call, 0, x.dtype(), shape), rows.values);

  const auto stash =
      static_cast<DType>(call.node.attributes.get_int("stash_type", static_cast<std::int64_t>(DType::f32)));
  std::vector<std::int64_t> kept = shape.dims();
  std::fill(kept.begin() + static_cast<std::ptrdiff_t>(axis), kept.end(), 1);
  if (call.has_out(1)) store(ensure_out(call, 1, stash, Shape(kept)), rows.mean);
  if (call.has_out(2)) store(ensure_out(call, 2, stash, Shape(kept)), rows.inverse_deviation);
}

/// Normalizes x [N, C, ...] over rows of `row_length`, then applies scale and bias [C].
void normalize_channels(KernelCall& call, std::int64_t row_length) {
  const Tensor& x = call.in[0];
  const std::int64_t channels = x.shape()[1];
  if (call.in[1].shape() != Shape{channels} || call.in[2].shape() != Shape{channels})
    throw_input_error(fmt::format("scale and bias of shape [{}]", channels),
                      call.in[1].shape().to_string() + " and " + call.in[2].shape().to_string(),
                      "check the shapes of the normalization's parameters");
  Rows rows(x, row_length, epsilon_of(call.node));
  const std::vector<double> scale = to_doubles(call.in[1]), bias = to_doubles(call.in[2]);
  const auto plane = static_cast<std::size_t>(x.shape().count(2, x.shape().rank()));
  for (std::size_t i = 0; i < rows.values.size(); ++i) {
    const std::size_t k = i / plane % scale.size();
    rows.values[i] = rows.values[i] * scale[k] + bias[k];
  }
  store(ensure_out(call, 0, x.dtype(), x.shape()), rows.values);
}

void check_has_channels(const Shape& x) {
  if (x.rank() < 2)
    throw_input_error("a tensor of shape [N, C, D1, ...]", x.to_string(), "add the batch and channel axes");
}

void instance_normalization_kernel(KernelCall& call) {
  const Shape& x = call.in[0].shape();
  check_has_channels(x);
  normalize_channels(call, x.count(2, x.rank()));
}

std::int64_t groups_of(const Node& node, const Shape& x) {
  check_has_channels(x);
  const std::int64_t groups = node.attributes.get_int("num_groups", 0);
  if (groups < 1 || x[1] % groups != 0)
    throw_input_error("num_groups that divides the number of channels", fmt::format("{} of {}", groups, x[1]),
                      "correct the model");
  return groups;
}

void group_normalization_kernel(KernelCall& call) {
  const Shape& x = call.in[0].shape();
  const std::int64_t groups = groups_of(call.node, x);
  normalize_channels(call, x[1] / groups * x.count(2, x.rank()));
}

// Gradients -----------------------------------------------------------------------------------------------------------

/// x with zero mean and unit variance over `axes`, at least in f32, with its intermediate values; and the gradient.
/// `groups`: into which axis 1 is cut, each of which has its mean and variance; 0: of each place of it.
struct Normalized {
  Expr value, inverse_deviation;
  std::vector<std::int64_t> axes;
  std::int64_t groups;

  Normalized(Expr x, std::vector<std::int64_t> over, float epsilon, std::int64_t into = 0)
      : axes(std::move(over)), groups(into) {
    const Expr deviation = x - mean(x);
    inverse_deviation = 1.0 / x.builder().op("Sqrt", {mean(deviation * deviation) + epsilon});
    value = deviation * inverse_deviation;
  }

  Expr mean(Expr e) const {
    // ReduceMean without axes reduces all of them.
    if (!axes.empty()) e = e.builder().op("ReduceMean", {e, e.builder().ints(axes)});
    return groups == 0 || groups == e.shape()[1] ? e : mean_of_groups(e);
  }
  /// Of one element for each channel. What has planes keeps its shape, and the order of its axes in memory.
  Expr mean_of_groups(Expr e) const {
    Builder& b = e.builder();
    const Shape shape = e.shape(), grouped{shape[0], groups, shape[1] / groups};
    const Expr mean = b.op("ReduceMean", {b.reshape(e, grouped), b.ints({2})});
    return b.reshape(b.op("Expand", {mean, b.ints(grouped.dims())}), shape);
  }
  /// The gradient with respect to x, from the one with respect to `value`.
  Expr input_gradient(Expr d) const { return inverse_deviation * (d - mean(d) - value * mean(d * value)); }
};

std::vector<std::int64_t> axes_from(std::size_t first, std::size_t rank) {
  std::vector<std::int64_t> axes;
  for (std::size_t axis = first; axis < rank; ++axis) axes.push_back(static_cast<std::int64_t>(axis));
  return axes;
}

float epsilon_of(GradientContext& g) { return g.node.attributes.get_float("epsilon", 1e-5f); }

std::vector<Expr> layer_normalization_gradient(GradientContext& g) {
  const Expr x = g.in(0), scale = g.in(1), bias = g.in(2);
  const DType type = wide(x.dtype());
  const std::size_t axis = normalize_axis(g.node.attributes.get_int("axis", -1), x.rank());
  const Shape row{x.shape()[x.rank() - 1]};
  if (axis + 1 == x.rank() && scale.shape() == row && (!bias || bias.shape() == row) && !g.dy(1) && !g.dy(2)) {
    std::vector<Expr> d =
        g.b.multi("LayerNormalizationGrad", kOwnDomain, {g.dy(), x, scale}, 3, {{"epsilon", epsilon_of(g)}});
    if (!bias) d.pop_back();
    return d;
  }
  const Normalized n(g.b.cast(x, type), axes_from(axis, x.rank()), epsilon_of(g));
  std::vector<Expr> d(3);
  Expr dx;
  if (g.dy()) {
    const Expr dy = g.b.cast(g.dy(), type);
    dx = n.input_gradient(dy * g.b.cast(scale, type));
    if (g.wants(1)) d[1] = g.b.cast(g.b.sum_to(dy * n.value, scale.shape()), scale.dtype());
    if (bias && g.wants(2)) d[2] = g.b.cast(g.b.sum_to(dy, bias.shape()), bias.dtype());
  }
  // Mean and InvStdDev may have readers.
  const auto count = static_cast<double>(x.shape().count(axis, x.rank()));
  auto add = [&dx](Expr term) { dx = dx ? dx + term : term; };
  if (g.dy(1)) add(g.b.cast(g.dy(1), type) / count + g.b.zeros_like(n.value));
  if (g.dy(2)) add(n.value * (g.b.cast(g.dy(2), type) * n.inverse_deviation * n.inverse_deviation * (-1 / count)));
  d[0] = g.b.cast(dx, x.dtype());
  return d;
}

/// Gradients of scale and bias [C] from dy and the normalized x, both [N, C, ...].
void add_channel_gradients(GradientContext& g, Expr dy, Expr normalized, std::vector<Expr>& d) {
  std::vector<std::int64_t> axes = axes_from(2, dy.rank());
  axes.insert(axes.begin(), 0);
  if (g.wants(1)) d[1] = g.b.cast(g.b.reduce_sum(dy * normalized, axes, false), g.in(1).dtype());
  if (g.wants(2)) d[2] = g.b.cast(g.b.reduce_sum(dy, axes, false), g.in(2).dtype());
}

/// scale [C], reshaped for multiplication with a value [N, C, ...].
Expr per_channel(Builder& b, Expr scale, std::size_t rank, DType type) {
  if (rank < 2 || scale.shape().rank() != 1)
    throw_input_error("a tensor of shape [N, C, ...] and a scale of shape [C]",
                      fmt::format("{} axes and {}", rank, scale.shape().to_string()),
                      "check the shapes of the normalization's parameters");
  std::vector<std::int64_t> dims(rank, 1);
  dims[1] = scale.shape()[0];
  return b.cast(b.reshape(scale, Shape(std::move(dims))), type);
}

std::vector<Expr> instance_normalization_gradient(GradientContext& g) {
  const Expr x = g.in(0);
  const DType type = wide(x.dtype());
  const Expr dy = g.b.cast(g.dy(), type);
  const Normalized n(g.b.cast(x, type), axes_from(2, x.rank()), epsilon_of(g));
  std::vector<Expr> d(3);
  if (g.wants(0)) d[0] = g.b.cast(n.input_gradient(dy * per_channel(g.b, g.in(1), x.rank(), type)), x.dtype());
  add_channel_gradients(g, dy, n.value, d);
  return d;
}

std::vector<Expr> group_normalization_gradient(GradientContext& g) {
  const Expr x = g.in(0);
  const Shape shape = x.shape();
  const DType type = wide(x.dtype());
  const std::int64_t groups = groups_of(g.node, shape);
  const Expr dy = g.b.cast(g.dy(), type);
  const Normalized n(g.b.cast(x, type), axes_from(2, shape.rank()), epsilon_of(g), groups);
  std::vector<Expr> d(3);
  if (g.wants(0)) d[0] = g.b.cast(n.input_gradient(dy * per_channel(g.b, g.in(1), x.rank(), type)), x.dtype());
  add_channel_gradients(g, dy, n.value, d);
  return d;
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kLayerNormalizationCases = {
    {"(float[3,5] x, float[5] s, float[5] b) => (float[3,5] y) { y = LayerNormalization(x, s, b) }"},
    {"(float[2,3,5] x, float[5] s) => (float[2,3,5] y) { y = LayerNormalization<epsilon = 0.01>(x, s) }"},
    {"(float[2,3,5] x, float[3,5] s, float[3,5] b) => (float[2,3,5] y) { y = LayerNormalization<axis = 1>(x, s, b) }"},
    {"(float[2,3,5] x, float[1,1] s, float[5] b) => (float[2,3,5] y) { y = LayerNormalization<axis = -2>(x, s, b) }"},
    {"(float[2,3,5] x, float[5] s, float[5] b) => (float[2,3,5] y, float[2,3,1] m, float[2,3,1] r) { y, m, r = "
     "LayerNormalization(x, s, b) }",
     -2, 2, false},
    {"(float[0,5] x, float[5] s, float[5] b) => (float[0,5] y) { y = LayerNormalization(x, s, b) }"},
};

const std::vector<OpCase> kInstanceNormalizationCases = {
    {"(float[2,3,4,5] x, float[3] s, float[3] b) => (float[2,3,4,5] y) { y = InstanceNormalization(x, s, b) }"},
    {"(float[2,3,7] x, float[3] s, float[3] b) => (float[2,3,7] y) "
     "{ y = InstanceNormalization<epsilon = 0.01>(x, s, b) }"},
    {"(float[2,3] x, float[3] s, float[3] b) => (float[2,3] y) { y = InstanceNormalization(x, s, b) }"},
    {"(float[0,3,4,5] x, float[3] s, float[3] b) => (float[0,3,4,5] y) { y = InstanceNormalization(x, s, b) }"},
};

const std::vector<OpCase> kGroupNormalizationCases = {
    {"(float[2,4,3,3] x, float[4] s, float[4] b) => (float[2,4,3,3] y) "
     "{ y = GroupNormalization<num_groups = 2>(x, s, b) }"},
    {"(float[3,6] x, float[6] s, float[6] b) => (float[3,6] y) { y = GroupNormalization<num_groups = 3>(x, s, b) }"},
    {"(float[2,3,5] x, float[3] s, float[3] b) => (float[2,3,5] y) "
     "{ y = GroupNormalization<num_groups = 1, epsilon = 0.01>(x, s, b) }"},
};

std::vector<OpDef> make_rows() {
  using enum OperandRole;
  std::vector<OpDef> rows;
  for (std::span<const OpDef> part : {batch_normalization_ops(), dropout_ops()})
    rows.insert(rows.end(), part.begin(), part.end());
  rows.push_back({.name = "LayerNormalization",
                  .precision = PrecisionClass::follow,
                  .traits = {.operands = {data, scale, bias}, .magnitude = magnitude::normalization},
                  .reference = layer_normalization_kernel,
                  .gradient = layer_normalization_gradient,
                  .cases = kLayerNormalizationCases});
  rows.push_back({.name = "InstanceNormalization",
                  .precision = PrecisionClass::follow,
                  .traits = {.features = FeatureAxis::second,
                             .operands = {data, scale, bias},
                             .magnitude = magnitude::normalization},
                  .reference = instance_normalization_kernel,
                  .gradient = instance_normalization_gradient,
                  .cases = kInstanceNormalizationCases});
  rows.push_back({.name = "GroupNormalization",
                  .precision = PrecisionClass::follow,
                  .traits = {.features = FeatureAxis::second,
                             .operands = {data, scale, bias},
                             .magnitude = magnitude::normalization},
                  .reference = group_normalization_kernel,
                  .gradient = group_normalization_gradient,
                  // Its schema has no inference function.
                  .result_shape = [](const Node&, std::span<const Shape> operands) { return operands[0]; },
                  .cases = kGroupNormalizationCases});
  for (std::span<const OpDef> part : {layer_normalization_grad_ops(), rescaling_ops()})
    rows.insert(rows.end(), part.begin(), part.end());
  return rows;
}

}  // namespace

std::span<const OpDef> normalization_ops() {
  static const std::vector<OpDef> rows = make_rows();
  return rows;
}

}  // namespace halfstep::ops
