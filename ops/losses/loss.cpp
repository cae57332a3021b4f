// SoftmaxCrossEntropyLoss, NegativeLogLikelihoodLoss and their gradients. Schemas of the latter are in loss_schema.cpp.
#include "ops/losses/loss.h"

#include <cmath>

#include <fmt/format.h>

#include "ops/families.h"
#include "ops/onnx_row.h"
#include "ops/schemas.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

// Kernels -------------------------------------------------------------------------------------------------------------

enum class Reduction { none, sum, mean };

Reduction reduction_of(const Attributes& attributes) {
  const std::string name = attributes.get_string("reduction", "mean");
  if (name == "none") return Reduction::none;
  if (name == "sum") return Reduction::sum;
  if (name == "mean") return Reduction::mean;
  throw_input_error("attribute reduction none, sum or mean", name, "correct the model");
}

/// Scores [N, C, D...] with a label for each of the N * D points, after checks: the offset of each label's score, and
/// the weight of each point (0 if the label is ignored).
struct Labels {
  static constexpr std::int64_t kIgnored = -1;

  std::int64_t classes, plane;
  std::vector<std::int64_t> score_at;  ///< for each point the offset into the scores, or kIgnored
  std::vector<double> weight;
  double total_weight = 0;

  /// The mean over points without weight is 0, and so is its gradient.
  double mean_of(double sum) const { return total_weight == 0 ? 0 : sum / total_weight; }

  Labels(const Attributes& attributes, const Shape& scores, const Tensor& labels, const Tensor* weights) {
    if (scores.rank() < 2)
      throw_input_error("scores of shape [N, C, ...]", scores.to_string(), "check what the loss is computed from");
    std::vector<std::int64_t> expected = scores.dims();
    expected.erase(expected.begin() + 1);
    if (labels.shape() != Shape(expected))
      throw_input_error("labels of shape " + Shape(expected).to_string(), labels.shape().to_string(),
                        "give one class index for each row of scores");
    classes = scores[1];
    plane = scores.count(2, scores.rank());
    std::vector<double> class_weight(static_cast<std::size_t>(classes), 1.0);
    if (weights) {
      if (weights->count() != classes)
        throw_input_error(fmt::format("{} class weights", classes), weights->shape().to_string(),
                          "give one weight for each class");
      class_weight = to_doubles(*weights);
    }
    std::optional<std::int64_t> ignored;
    if (attributes.has("ignore_index")) ignored = attributes.get_int("ignore_index", 0);
    check_labels(labels, classes, ignored);

    const std::vector<std::int64_t> values = to_int64s(labels);
    score_at.reserve(values.size());
    weight.reserve(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t label = values[i];
      if (label == ignored) {
        score_at.push_back(kIgnored);
        weight.push_back(0);
        continue;
      }
      const auto point = static_cast<std::int64_t>(i);
      score_at.push_back((point / plane * classes + label) * plane + point % plane);
      weight.push_back(class_weight[label]);
      total_weight += weight.back();
    }
  }
};

const Tensor* weights_of(const KernelCall& call, std::size_t i) { return call.has_in(i) ? &call.in[i] : nullptr; }

/// Writes to output 0 the weighted negative log-likelihoods of the labels, with the node's reduction.
void store_loss(KernelCall& call, const std::vector<double>& log_prob, const Labels& labels, DType dtype,
                const Shape& label_shape) {
  std::vector<double> loss(labels.weight.size());
  double sum = 0;
  for (std::size_t i = 0; i < loss.size(); ++i) {
    if (labels.score_at[i] != Labels::kIgnored) loss[i] = -labels.weight[i] * log_prob[labels.score_at[i]];
    sum += loss[i];
  }
  switch (reduction_of(call.node.attributes)) {
    case Reduction::none:
      store(ensure_out(call, 0, dtype, label_shape), loss);
      return;
    case Reduction::sum:
      loss = {sum};
      break;
    case Reduction::mean:
      loss = {labels.mean_of(sum)};
      break;
  }
  store(ensure_out(call, 0, dtype, Shape{}), loss);
}

void negative_log_likelihood_loss_kernel(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Labels labels(call.node.attributes, x.shape(), call.in[1], weights_of(call, 2));
  store_loss(call, to_doubles(x), labels, x.dtype(), call.in[1].shape());
}

void softmax_cross_entropy_loss_kernel(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Labels labels(call.node.attributes, x.shape(), call.in[1], weights_of(call, 2));
  std::vector<double> values = to_doubles(x);
  AxisView(x.shape(), 1).for_each_line([&](std::int64_t first, std::int64_t step) {
    double* line = values.data() + first;
    double largest = -INFINITY, sum = 0;
    for (std::int64_t c = 0; c < labels.classes; ++c) largest = std::max(largest, line[c * step]);
    for (std::int64_t c = 0; c < labels.classes; ++c) sum += std::exp(line[c * step] - largest);
    const double log_sum = largest + std::log(sum);
    for (std::int64_t c = 0; c < labels.classes; ++c) line[c * step] -= log_sum;
  });
  if (call.has_out(0)) store_loss(call, values, labels, x.dtype(), call.in[1].shape());
  if (call.has_out(1)) store(ensure_out(call, 1, x.dtype(), x.shape()), values);
}

/// For each point the gradient of the loss with respect to its unweighted log-likelihood, negated.
std::vector<double> point_gradients(const KernelCall& call, const Labels& labels) {
  const std::vector<double> dloss = to_doubles(call.in[0]);
  const Reduction reduction = reduction_of(call.node.attributes);
  const std::size_t expected = reduction == Reduction::none ? labels.weight.size() : 1;
  if (dloss.size() != expected)
    throw_input_error(fmt::format("a gradient of {} elements", expected), call.in[0].shape().to_string(),
                      "check the graph");
  std::vector<double> result(labels.weight.size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (labels.score_at[i] == Labels::kIgnored) continue;
    const double scale = reduction == Reduction::none   ? dloss[i]
                         : reduction == Reduction::mean ? labels.mean_of(dloss[0])
                                                        : dloss[0];
    result[i] = scale * labels.weight[i];
  }
  return result;
}

void softmax_cross_entropy_grad_kernel(KernelCall& call) {
  const Tensor& log_prob = call.in[1];
  const Labels labels(call.node.attributes, log_prob.shape(), call.in[2], weights_of(call, 3));
  const std::vector<double> points = point_gradients(call, labels);
  std::vector<double> d = to_doubles(log_prob);
  std::size_t point = 0;
  AxisView(log_prob.shape(), 1).for_each_line([&](std::int64_t first, std::int64_t step) {
    for (std::int64_t c = 0; c < labels.classes; ++c) {
      double& element = d[first + c * step];
      const double hit = labels.score_at[point] == first + c * step ? 1 : 0;
      // An ignored point has no gradient, whatever its scores are.
      element = labels.score_at[point] == Labels::kIgnored ? 0 : points[point] * (std::exp(element) - hit);
    }
    ++point;
  });
  store(ensure_out(call, 0, log_prob.dtype(), log_prob.shape()), d);
}

void negative_log_likelihood_loss_grad_kernel(KernelCall& call) {
  const Attributes& attributes = call.node.attributes;
  const Shape shape(attributes.get_ints("input_shape"));
  const Labels labels(attributes, shape, call.in[1], weights_of(call, 2));
  const std::vector<double> points = point_gradients(call, labels);
  std::vector<double> d(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < points.size(); ++i)
    if (labels.score_at[i] != Labels::kIgnored) d[labels.score_at[i]] = -points[i];
  const std::int64_t to = attributes.get_int("to", 0);
  store(ensure_out(call, 0, to == 0 ? call.in[0].dtype() : static_cast<DType>(to), shape), d);
}

// Gradients -----------------------------------------------------------------------------------------------------------

Attributes loss_attributes(const Attributes& attributes) {
  Attributes result;
  for (const char* name : {"ignore_index", "reduction"})
    if (const Attribute* value = attributes.find(name)) result.set(name, *value);
  return result;
}

std::vector<Expr> softmax_cross_entropy_gradient(GradientContext& g) {
  const Expr x = g.in(0);
  const Expr log_prob = g.out(1) ? g.out(1) : g.b.op("LogSoftmax", {x}, {{"axis", std::int64_t{1}}});
  Expr dx;
  if (g.dy(0))
    dx = g.b.own("SoftmaxCrossEntropyGrad", {g.dy(0), log_prob, g.in(1), g.in(2)}, loss_attributes(g.node.attributes));
  if (g.dy(1)) {
    const Expr through = g.dy(1) - g.b.op("Exp", {log_prob}) * g.b.reduce_sum(g.dy(1), {1}, /*keep_dims=*/true);
    dx = dx ? dx + through : through;
  }
  return {dx};
}

std::vector<Expr> negative_log_likelihood_gradient(GradientContext& g) {
  Attributes attributes = loss_attributes(g.node.attributes);
  attributes.set("input_shape", g.in(0).shape().dims());
  attributes.set("to", static_cast<std::int64_t>(g.in(0).dtype()));
  return {g.b.own("NegativeLogLikelihoodLossGrad", {g.dy(), g.in(1), g.in(2)}, std::move(attributes))};
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kSoftmaxCrossEntropyCases = {
    {"(float[3,5] x) => (float loss) <int64[3] labels = {4, 0, 2}> { loss = SoftmaxCrossEntropyLoss(x, labels) }"},
    {"(float[3,5] x) => (float loss, float[3,5] log_prob) <int32[3] labels = {4, 0, 2}> "
     "{ loss, log_prob = SoftmaxCrossEntropyLoss<reduction = \"sum\">(x, labels) }"},
    {"(float[2,3,2,2] x) => (float[2,2,2] loss) <int64[2,2,2] labels = {0, 1, 2, 0, 1, 1, 2, 2}> "
     "{ loss = SoftmaxCrossEntropyLoss<reduction = \"none\">(x, labels) }"},
    {"(float[4,3] x) => (float loss) <int64[4] labels = {2, -100, 0, 1}, float[3] w = {0.5, 1.0, 2.0}> "
     "{ loss = SoftmaxCrossEntropyLoss<ignore_index = -100>(x, labels, w) }"},
    {"(float[2,3,4] x) => (float loss, float[2,3,4] log_prob) <int64[2,4] labels = {0, 1, 2, 0, 1, 1, 2, 2}> "
     "{ loss, log_prob = SoftmaxCrossEntropyLoss<ignore_index = 1>(x, labels) }"},
    {"(float[2,3] x) => (float loss, float[2,3] log_prob) <int64[2] labels = {-100, -100}> "
     "{ loss, log_prob = SoftmaxCrossEntropyLoss<ignore_index = -100>(x, labels) }"},
    {"(float[0,3] x) => (float loss) <int64[0] labels = {}> "
     "{ loss = SoftmaxCrossEntropyLoss<reduction = \"sum\">(x, labels) }"},
};

const std::vector<OpCase> kNegativeLogLikelihoodCases = {
    {"(float[3,5] x) => (float loss) <int64[3] labels = {4, 0, 2}> { loss = NegativeLogLikelihoodLoss(x, labels) }"},
    {"(float[3,5] x) => (float[3] loss) <int32[3] labels = {4, 0, 2}> "
     "{ loss = NegativeLogLikelihoodLoss<reduction = \"none\">(x, labels) }"},
    {"(float[2,3,2,2] x) => (float loss) <int64[2,2,2] labels = {0, 1, 2, 0, 1, 1, 2, 2}, float[3] w = {0.5, 1.0, "
     "2.0}> "
     "{ loss = NegativeLogLikelihoodLoss<ignore_index = 1>(x, labels, w) }"},
    {"(float[2,3] x) => (float loss) <int64[2] labels = {-100, -100}> "
     "{ loss = NegativeLogLikelihoodLoss<ignore_index = -100>(x, labels) }"},
    {"(float[2,3,4] x) => (float loss) <int64[2,4] labels = {0, 1, 2, 0, 1, 1, 2, 2}> "
     "{ loss = NegativeLogLikelihoodLoss<reduction = \"sum\">(x, labels) }"},
};

const std::vector<OpCase> kSoftmaxCrossEntropyGradCases = {
    {"(float dloss, float[3,5] lp) => (float[3,5] dx) <int64[3] labels = {4, 0, 2}> "
     "{ dx = ai.halfstep.SoftmaxCrossEntropyGrad(dloss, lp, labels) }",
     -2, 0, false},
    {"(float dloss, float[4,3] lp) => (float[4,3] dx) <int64[4] labels = {2, -100, 0, 1}, float[3] w = {0.5, 1.0, "
     "2.0}> "
     "{ dx = ai.halfstep.SoftmaxCrossEntropyGrad<ignore_index = -100>(dloss, lp, labels, w) }",
     -2, 0, false},
    {"(float dloss, float[2,3] lp) => (float[2,3] dx) <int64[2] labels = {-100, -100}> "
     "{ dx = ai.halfstep.SoftmaxCrossEntropyGrad<ignore_index = -100>(dloss, lp, labels) }",
     -2, 0, false},
    {"(float[2,2] dloss, float[2,3,2] lp) => (float[2,3,2] dx) <int32[2,2] labels = {0, 1, 2, 0}> "
     "{ dx = ai.halfstep.SoftmaxCrossEntropyGrad<reduction = \"none\">(dloss, lp, labels) }",
     -2, 0, false},
};

const std::vector<OpCase> kNegativeLogLikelihoodGradCases = {
    {"(float dloss) => (float[3,5] dx) <int64[3] labels = {4, 0, 2}> "
     "{ dx = ai.halfstep.NegativeLogLikelihoodLossGrad<input_shape = [3, 5]>(dloss, labels) }"},
    {"(float dloss) => (float[2,3] dx) <int64[2] labels = {-100, -100}> "
     "{ dx = ai.halfstep.NegativeLogLikelihoodLossGrad<ignore_index = -100, input_shape = [2, 3]>(dloss, labels) }"},
    {"(float[2,2] dloss) => (float[2,3,2] dx) <int64[2,2] labels = {0, 1, 2, 0}, float[3] w = {0.5, 1.0, 2.0}> "
     "{ dx = ai.halfstep.NegativeLogLikelihoodLossGrad<reduction = \"none\", ignore_index = 1, input_shape = [2, 3, 2]>"
     "(dloss, labels, w) }"},
};

constexpr std::string_view kLabels =
    "a label outside [0, C) that is not ignore_index is an error; the mean is 0 if all labels are ignored";

}  // namespace

void check_labels(const Tensor& labels, std::int64_t classes, std::optional<std::int64_t> ignored) {
  auto check = [&](const auto& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t label = values[i];
      if (label != ignored && (label < 0 || label >= classes))
        throw_input_error(fmt::format("labels from 0 to {}", classes - 1), fmt::format("{} at position {}", label, i),
                          "check the labels, the number of classes of the model, and the label that is ignored");
    }
  };
  if (labels.dtype() == DType::i64)
    check(labels.span<std::int64_t>());
  else if (labels.dtype() == DType::i32)
    check(labels.span<std::int32_t>());
  else
    check(to_int64s(labels));
}

std::span<const OpDef> loss_ops() {
  static const OpDef rows[] = {
      onnx_row("SoftmaxCrossEntropyLoss", PrecisionClass::full, {}, softmax_cross_entropy_loss_kernel,
               softmax_cross_entropy_gradient, kSoftmaxCrossEntropyCases, kLabels),
      onnx_row("NegativeLogLikelihoodLoss", PrecisionClass::full, {}, negative_log_likelihood_loss_kernel,
               negative_log_likelihood_gradient, kNegativeLogLikelihoodCases, kLabels),
      {.name = "SoftmaxCrossEntropyGrad",
       .domain = kOwnDomain,
       .reference = softmax_cross_entropy_grad_kernel,
       .cases = kSoftmaxCrossEntropyGradCases,
       .schema = softmax_cross_entropy_grad_schema},
      {.name = "NegativeLogLikelihoodLossGrad",
       .domain = kOwnDomain,
       .reference = negative_log_likelihood_loss_grad_kernel,
       .cases = kNegativeLogLikelihoodGradCases,
       .schema = negative_log_likelihood_loss_grad_schema},
  };
  return rows;
}

}  // namespace halfstep::ops
