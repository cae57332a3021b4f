#include "ops/normalization/batch_normalization.h"

#include <cmath>

#include <fmt/format.h>

#include "ops/epilogue.h"
#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include "ops/schemas.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

// Kernels -------------------------------------------------------------------------------------------------------------

/// A tensor [N, C, D1, ...] as [batch, channels, plane]; one with a single axis has one channel.
struct Channels {
  std::int64_t batch, channels, plane;

  explicit Channels(const Shape& x) {
    if (x.rank() == 0)
      throw_input_error("a tensor of shape [N, C, D1, ...]", x.to_string(), "add the batch and channel axes");
    batch = x[0];
    channels = x.rank() > 1 ? x[1] : 1;
    plane = x.rank() > 2 ? x.count(2, x.rank()) : 1;
  }
  std::int64_t per_channel() const { return batch * plane; }

  /// Calls f(offset) for every element of a channel.
  template <class F>
  void for_each(std::int64_t channel, F&& f) const {
    for (std::int64_t n = 0; n < batch; ++n) {
      const std::int64_t first = (n * channels + channel) * plane;
      for (std::int64_t i = 0; i < plane; ++i) f(static_cast<std::size_t>(first + i));
    }
  }

  /// One value per channel from an operand of shape [C].
  std::vector<double> read(const Tensor& tensor) const {
    if (tensor.count() != channels)
      throw_input_error(fmt::format("{} values, one for each channel", channels), tensor.shape().to_string(),
                        "check the shapes of the normalization's parameters");
    return to_doubles(tensor);
  }
};

/// Mean and biased variance of every channel.
struct Statistics {
  std::vector<double> mean, variance;
};

Statistics batch_statistics(const Channels& c, const std::vector<double>& x) {
  if (c.per_channel() == 0 && c.channels > 0)
    throw_input_error("a training batch with at least one element in each channel", "an empty one",
                      "leave empty batches out of training");
  Statistics s;
  const auto count = static_cast<double>(c.per_channel());
  for (std::int64_t channel = 0; channel < c.channels; ++channel) {
    double sum = 0, squares = 0;
    c.for_each(channel, [&](std::size_t i) { sum += x[i]; });
    const double mean = sum / count;
    c.for_each(channel, [&](std::size_t i) { squares += (x[i] - mean) * (x[i] - mean); });
    s.mean.push_back(mean);
    s.variance.push_back(squares / count);
  }
  return s;
}

double epsilon_of(const Node& node) { return node.attributes.get_float("epsilon", 1e-5f); }

// BatchNormalization, and FusedBatchNormalization (which has an addition and an activation behind it).
void batch_normalization_kernel(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Channels c(x.shape());
  const bool training = call.node.attributes.get_int("training_mode", 0) != 0;
  const std::vector<double> values = to_doubles(x), scale = c.read(call.in[1]), bias = c.read(call.in[2]);
  const Statistics given = {c.read(call.in[3]), c.read(call.in[4])};
  const Statistics s = training ? batch_statistics(c, values) : given;
  const double epsilon = epsilon_of(call.node);

  std::vector<double> y(values.size());
  for (std::int64_t channel = 0; channel < c.channels; ++channel) {
    const auto k = static_cast<std::size_t>(channel);
    const double factor = scale[k] / std::sqrt(s.variance[k] + epsilon);
    c.for_each(channel, [&](std::size_t i) { y[i] = (values[i] - s.mean[k]) * factor + bias[k]; });
  }
  if (call.has_in(5)) {
    const std::vector<double> residual = to_doubles(call.in[5]);
    if (residual.size() != y.size())
      throw_input_error("a residual of shape " + x.shape().to_string(), call.in[5].shape().to_string(),
                        "check the graph");
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += residual[i];
  }
  if (const auto clamp = clamp_of(call.node.attributes))
    for (double& value : y) value = (*clamp)(value);
  if (call.has_out(0)) store(ensure_out(call, 0, x.dtype(), x.shape()), y);
  if (!training) return;

  const double momentum = call.node.attributes.get_float("momentum", 0.9f);
  auto store_running = [&](std::size_t out, const std::vector<double>& before, const std::vector<double>& batch) {
    if (!call.has_out(out)) return;
    std::vector<double> running(before.size());
    for (std::size_t k = 0; k < running.size(); ++k) running[k] = before[k] * momentum + batch[k] * (1 - momentum);
    const Tensor& state = call.in[out + 2];
    store(ensure_out(call, out, state.dtype(), state.shape()), running);
  };
  store_running(1, given.mean, s.mean);
  store_running(2, given.variance, s.variance);
}

void batch_normalization_grad_kernel(KernelCall& call) {
  const Tensor &dy = call.in[0], &x = call.in[1], &scale = call.in[2];
  const Channels c(x.shape());
  if (dy.shape() != x.shape())
    throw_input_error("a gradient of shape " + x.shape().to_string(), dy.shape().to_string(), "check the graph");
  const bool training = call.node.attributes.get_int("training_mode", 0) != 0;
  if (!training && !(call.has_in(3) && call.has_in(4)))
    throw_input_error("mean and variance when training_mode is 0", "none", "give inputs 3 and 4");
  const std::optional<Clamp> clamp = clamp_of(call.node.attributes);
  if (clamp && !call.has_in(5))
    throw_input_error("the normalization's bias where it has an activation", "none", "give input 5");
  std::vector<double> g = to_doubles(dy);
  const std::vector<double> values = to_doubles(x), scales = c.read(scale);
  const std::vector<double> biases = clamp ? c.read(call.in[5]) : std::vector<double>();
  const Statistics s = training ? batch_statistics(c, values) : Statistics{c.read(call.in[3]), c.read(call.in[4])};
  const double epsilon = epsilon_of(call.node), count = static_cast<double>(c.per_channel());

  std::vector<double> dx(values.size()), dscale(scales.size()), dbias(scales.size());
  for (std::int64_t channel = 0; channel < c.channels; ++channel) {
    const auto k = static_cast<std::size_t>(channel);
    const double deviation = std::sqrt(s.variance[k] + epsilon), inverse = 1 / deviation;
    c.for_each(channel, [&](std::size_t i) {
      if (clamp && !clamp->passes((values[i] - s.mean[k]) * (scales[k] / deviation) + biases[k])) g[i] = 0;
      dbias[k] += g[i];
      dscale[k] += g[i] * (values[i] - s.mean[k]) * inverse;
    });
    const double mean_g = dbias[k] / count, mean_gx = dscale[k] / count;
    c.for_each(channel, [&](std::size_t i) {
      const double normalized = (values[i] - s.mean[k]) * inverse;
      // In training mode the batch statistics depend on x.
      dx[i] = scales[k] * inverse * (training ? g[i] - mean_g - normalized * mean_gx : g[i]);
    });
  }
  if (call.has_out(0)) store(ensure_out(call, 0, x.dtype(), x.shape()), dx);
  if (call.has_out(1)) store(ensure_out(call, 1, scale.dtype(), scale.shape()), dscale);
  if (call.has_out(2)) store(ensure_out(call, 2, scale.dtype(), scale.shape()), dbias);
}

// Gradient ------------------------------------------------------------------------------------------------------------

std::vector<Expr> batch_normalization_gradient(GradientContext& g) {
  if (!g.dy()) return {};  // the running statistics are not differentiated
  const Attributes& attributes = g.node.attributes;
  const bool training = attributes.get_int("training_mode", 0) != 0;
  const float epsilon = attributes.get_float("epsilon", 1e-5f);
  std::vector<Expr> inputs = {g.dy(), g.in(0), g.in(1)};
  if (!training) inputs.insert(inputs.end(), {g.in(3), g.in(4)});
  std::vector<Expr> d = g.b.multi("BatchNormalizationGrad", kOwnDomain, inputs, 3,
                                  {{"epsilon", epsilon}, {"training_mode", std::int64_t{training}}});
  if (training || !(g.wants(3) || g.wants(4))) return d;

  const Expr variance = g.in(4) + epsilon, scale = g.b.cast(g.in(1), variance.dtype());
  const Expr dscale = g.b.cast(d[1], variance.dtype()), dbias = g.b.cast(d[2], variance.dtype());
  d.push_back(-(dbias * scale / g.b.op("Sqrt", {variance})));
  d.push_back(dscale * scale / variance * -0.5);
  return d;
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kBatchNormalizationCases = {
    {"(float[2,3,4,5] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4,5] y) "
     "{ y = BatchNormalization(x, s, b, m, v) }",
     0.1, 2},
    {"(float[4,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[4,3] y) "
     "{ y = BatchNormalization<epsilon = 0.01>(x, s, b, m, v) }",
     0.1, 2},
    {"(float[2,3,4,5] x, float[3] s, float[3] b) => (float[2,3,4,5] y) "
     "<float[3] m = {0.0, 1.0, -1.0}, float[3] v = {1.0, 0.5, 2.0}> "
     "{ y, rm, rv = BatchNormalization<training_mode = 1>(x, s, b, m, v) }"},
    {"(float[5,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[5,3] y, float[3] rm, float[3] rv) "
     "{ y, rm, rv = BatchNormalization<training_mode = 1, momentum = 0.75, epsilon = 0.001>(x, s, b, m, v) }",
     0.1, 2, false},
    {"(float[2,3,2,2,3] x, float[3] s, float[3] b) => (float[2,3,2,2,3] y) "
     "<float[3] m = {0.0, 0.0, 0.0}, float[3] v = {1.0, 1.0, 1.0}> "
     "{ y, rm, rv = BatchNormalization<training_mode = 1>(x, s, b, m, v) }"},
    {"(float[0,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[0,3,4] y) "
     "{ y = BatchNormalization(x, s, b, m, v) }",
     0.1, 2},
};

const std::vector<OpCase> kFusedBatchNormalizationCases = {
    {"(float[2,3,4,5] x, float[3] s, float[3] b, float[3] m, float[3] v) => "
     "(float[2,3,4,5] y, float[3] rm, float[3] rv) "
     "{ y, rm, rv = ai.halfstep.FusedBatchNormalization<training_mode = 1, activation = \"Relu\">(x, s, b, m, v) }",
     0.1, 2, false},
    {"(float[4,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[4,3] y) "
     "{ y = ai.halfstep.FusedBatchNormalization<epsilon = 0.01, activation = \"Relu\">(x, s, b, m, v) }",
     0.1, 2, false},
    {"(float[2,3,4,5] x, float[3] s, float[3] b, float[3] m, float[3] v) => "
     "(float[2,3,4,5] y, float[3] rm, float[3] rv) "
     "{ y, rm, rv = ai.halfstep.FusedBatchNormalization<training_mode = 1, activation = \"Clip\", min = 0.0, max = 1.0>"
     "(x, s, b, m, v) }",
     0.1, 2, false},
    {"(float[4,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[4,3] y) "
     "{ y = ai.halfstep.FusedBatchNormalization<activation = \"Clip\", max = 0.5>(x, s, b, m, v) }",
     0.1, 2, false},
    {"(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v, float[2,3,4] r) => "
     "(float[2,3,4] y, float[3] mm, float[3] vv) "
     "{ y, mm, vv = ai.halfstep.FusedBatchNormalization<training_mode = 1, activation = \"Relu\">(x, s, b, m, v, r) }",
     0.1, 2, false},
    {"(float[4,3] x, float[3] s, float[3] b, float[3] m, float[3] v, float[4,3] r) => (float[4,3] y) "
     "{ y = ai.halfstep.FusedBatchNormalization(x, s, b, m, v, r) }",
     0.1, 2, false},
};

const std::vector<OpCase> kBatchNormalizationGradCases = {
    {"(float[2,3,4,5] dy, float[2,3,4,5] x, float[3] s) => (float[2,3,4,5] dx, float[3] ds, float[3] db) "
     "{ dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1>(dy, x, s) }"},
    {"(float[5,3] dy, float[5,3] x, float[3] s) => (float[5,3] dx, float[3] ds, float[3] db) "
     "{ dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1, epsilon = 0.001>(dy, x, s) }"},
    {"(float[2,3,4] dy, float[2,3,4] x, float[3] s, float[3] m, float[3] v) => (float[2,3,4] dx, float[3] ds, float[3] "
     "db) "
     "{ dx, ds, db = ai.halfstep.BatchNormalizationGrad(dy, x, s, m, v) }",
     0.1, 2, false},
    {"(float[2,3,4] dy, float[2,3,4] x, float[3] s, float[3] b) => (float[2,3,4] dx, float[3] ds, float[3] db) "
     "{ dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1, activation = \"Relu\">(dy, x, s, , , b) }"},
    {"(float[2,3,4] dy, float[2,3,4] x, float[3] s, float[3] b) => (float[2,3,4] dx, float[3] ds, float[3] db) "
     "{ dx, ds, db = ai.halfstep.BatchNormalizationGrad<training_mode = 1, activation = \"Clip\", min = -1.0, max = "
     "1.0>"
     "(dy, x, s, , , b) }"},
    {"(float[4,3] dy, float[4,3] x, float[3] s, float[3] m, float[3] v, float[3] b) => "
     "(float[4,3] dx, float[3] ds, float[3] db) "
     "{ dx, ds, db = ai.halfstep.BatchNormalizationGrad<activation = \"Clip\", min = 0.5>(dy, x, s, m, v, b) }",
     0.1, 2, false},
};

/// With batch statistics of one or two elements, the gradient is a difference of nearly equal terms that is not zero
/// only due to epsilon: in f64 it is exact, in f32 it is the rounding error of its much larger terms.
bool normalizes_several(const Graph& graph, const Node& node) {
  const Shape& x = graph[node.inputs[1]].shape;
  const std::int64_t numbers = x.count(0, 1) * x.count(2, x.rank());
  return node.attributes.get_int("training_mode", 0) == 0 || (numbers != 1 && numbers != 2);
}

}  // namespace

std::span<const OpDef> batch_normalization_ops() {
  using enum OperandRole;
  static const OpDef rows[] = {
      onnx_row("BatchNormalization", PrecisionClass::follow,
               {.features = FeatureAxis::second,
                .operands = {data, scale, bias, mean, variance},
                .magnitude = magnitude::batch_normalization},
               batch_normalization_kernel, batch_normalization_gradient, kBatchNormalizationCases,
               "the running variance is the biased one, as ONNX says (PyTorch keeps the unbiased one)"),
      {.name = "FusedBatchNormalization",
       .domain = kOwnDomain,
       .precision = PrecisionClass::follow,
       .reference = batch_normalization_kernel,
       .cases = kFusedBatchNormalizationCases,
       .schema = fused_batch_normalization_schema,
       .note = "made after differentiation: no gradient"},
      {.name = "BatchNormalizationGrad",
       .domain = kOwnDomain,
       .precision = PrecisionClass::follow,
       .reference = batch_normalization_grad_kernel,
       .cases = kBatchNormalizationGradCases,
       .variations = {.fits = normalizes_several},
       .schema = batch_normalization_grad_schema},
  };
  return rows;
}

}  // namespace halfstep::ops
