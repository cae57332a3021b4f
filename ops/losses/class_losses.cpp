// Losses of outputs with a number per class along one axis.
#include "ops/losses/loss_rows.h"

namespace halfstep {
namespace {

/// Scores with the classes along axis 1, and a label per point: the form required by SoftmaxCrossEntropyLoss.
struct ClassRows {
  Expr scores, labels;
};
ClassRows class_rows(const LossOperands& o) {
  Builder& b = o.y.builder();
  const Shape s = o.y.shape();
  Expr scores = o.y;
  std::vector<std::int64_t> dims = s.dims();
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(o.axis));
  Shape points(dims);
  if (o.axis > 1 && o.axis + 1 == s.rank()) {
    points = Shape{points.count()};
    scores = b.reshape(scores, Shape{points[0], s[o.axis]});
  } else if (o.axis > 1) {
    std::vector<std::int64_t> perm{0, static_cast<std::int64_t>(o.axis)};
    for (std::size_t i = 1; i < s.rank(); ++i)
      if (i != o.axis) perm.push_back(static_cast<std::int64_t>(i));
    scores = b.transpose(scores, std::move(perm));
  }
  return {scores, o.labels.shape() == points ? o.labels : b.reshape(o.labels, points)};
}

std::string name_of(LossReduction reduction) { return reduction == LossReduction::sum ? "sum" : "mean"; }

Tensor class_weights(const LossOperands& o) { return convert(Tensor::of<double>(o.class_weights), o.y.dtype()); }

/// An operator on scores and class indices, with optional weights, that reduces the losses itself.
Expr of_indices(const LossOperands& o, std::string_view op, std::string reduction) {
  Builder& b = o.y.builder();
  const ClassRows rows = class_rows(o);
  Attributes attributes{{"reduction", std::move(reduction)}};
  if (o.ignored) attributes.set("ignore_index", *o.ignored);
  std::vector<Expr> operands{rows.scores, rows.labels};
  if (!o.class_weights.empty()) operands.push_back(b.constant(class_weights(o)));
  return b.multi(op, kOnnxDomain, std::move(operands), op == "SoftmaxCrossEntropyLoss" ? 2 : 1,
                 std::move(attributes))[0];
}

/// For each point the loss of its class index, in the shape of the labels of such points.
Expr points_of_indices(const LossOperands& o, std::string_view op) {
  std::vector<std::int64_t> dims = o.y.shape().dims();
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(o.axis));
  return o.y.builder().reshape(of_indices(o, op, "none"), Shape(dims));
}

/// For each class index the weight of its class; empty if all weights are equal.
Expr weights_of_indices(const LossOperands& o) {
  if (o.class_weights.empty()) return {};
  Builder& b = o.y.builder();
  const Expr known = o.ignored ? b.op("Where", {is_ignored(o), b.scalar(0, o.labels.dtype()), o.labels}) : o.labels;
  return b.op("Gather", {b.constant(class_weights(o)), known});
}

/// `x`, which has a number per class, times the class weights.
Expr weighed(const LossOperands& o, Expr x) {
  if (o.class_weights.empty()) return x;
  std::vector<std::int64_t> dims(o.y.rank(), 1);
  dims[o.axis] = static_cast<std::int64_t>(o.class_weights.size());
  return x * x.builder().constant(class_weights(o).reshaped(Shape(dims)));
}

Expr log_softmax(const LossOperands& o) {
  return o.y.builder().op("LogSoftmax", {o.y}, {{"axis", static_cast<std::int64_t>(o.axis)}});
}

/// `x`, and 0 where the label is: a class without a share counts nothing, even where its logarithm is that of 0.
Expr of_shares(const LossOperands& o, Expr x) {
  Builder& b = x.builder();
  const Expr zero = b.scalar(0, x.dtype());
  return b.op("Where", {b.op("Equal", {o.labels, zero}), zero, x});
}

Expr sum_over_classes(const LossOperands& o, Expr x) {
  return x.builder().reduce_sum(x, {static_cast<std::int64_t>(o.axis)}, false);
}

Expr softmax_cross_entropy(const LossOperands& o) {
  Builder& b = o.y.builder();
  const double smoothing = o.numbers[0], spread = smoothing / static_cast<double>(o.y.shape()[o.axis]);
  if (!o.indices) {
    const Expr products = smoothing == 0 ? o.labels * of_shares(o, log_softmax(o))
                                         : (o.labels * (1 - smoothing) + spread) * log_softmax(o);
    return reduced(o, -sum_over_classes(o, weighed(o, products)));
  }
  constexpr std::string_view kOp = "SoftmaxCrossEntropyLoss";
  if (smoothing == 0 && !o.sample_weights) return of_indices(o, kOp, name_of(o.reduction));
  Expr losses = points_of_indices(o, kOp);
  if (smoothing != 0) {
    Expr even = sum_over_classes(o, weighed(o, log_softmax(o)));
    if (o.ignored) {
      const Expr ignored = b.reshape(is_ignored(o), losses.shape());
      even = b.op("Where", {ignored, b.scalar(0, even.dtype()), even});
    }
    losses = losses * (1 - smoothing) - even * spread;
  }
  return reduced(o, losses, weights_of_indices(o));
}

Expr negative_log_likelihood(const LossOperands& o) {
  constexpr std::string_view kOp = "NegativeLogLikelihoodLoss";
  if (!o.indices) return reduced(o, -sum_over_classes(o, weighed(o, o.labels * of_shares(o, o.y))));
  if (!o.sample_weights) return of_indices(o, kOp, name_of(o.reduction));
  return reduced(o, points_of_indices(o, kOp), weights_of_indices(o));
}

Expr kl_divergence(const LossOperands& o) {
  Builder& b = o.y.builder();
  // A probability of 0 contributes 0.
  const Expr log_share = b.op("Log", {b.op("Max", {o.labels, b.scalar(1e-30, o.labels.dtype())})});
  return reduced(o, sum_over_classes(o, o.labels * (log_share - of_shares(o, log_softmax(o)))));
}

Expr focal(const LossOperands& o) {
  Builder& b = o.y.builder();
  const double gamma = o.numbers[0], alpha = o.numbers[1];
  if (o.indices) {
    LossOperands plain = o;
    plain.class_weights.clear();
    const Expr loss = points_of_indices(plain, "SoftmaxCrossEntropyLoss");
    const Expr focused = focal_weight(1 - b.op("Exp", {-loss}), gamma) * loss * alpha, weights = weights_of_indices(o);
    return reduced(o, weights ? focused * b.reshape(weights, focused.shape()) : focused, weights);
  }
  const Expr log_prob = log_softmax(o);
  const Expr focused = focal_weight(1 - b.op("Exp", {log_prob}), gamma) * o.labels * of_shares(o, log_prob);
  return reduced(o, sum_over_classes(o, weighed(o, focused))) * -alpha;
}

std::optional<std::string_view> is_default(const LossFacts& f) {
  if (f.indices) return "";
  if (!f.for_each_element) return f.integer ? std::optional<std::string_view>("") : std::nullopt;
  if (f.single) return std::nullopt;
  if (f.last_operator == "Softmax" || f.last_operator == "LogSoftmax") return "";
  if (f.one_hot && f.last_operator != "Sigmoid") return "the labels are one-hot";
  return std::nullopt;
}

}  // namespace

std::vector<LossDef> class_losses() {
  return {
      {.name = "softmax_cross_entropy",
       .meaning = "cross-entropy of logits, or of a model that ends in a Softmax",
       .source = "torch.nn.CrossEntropyLoss",
       .labels = LossLabels::classes,
       .along = "classes",
       .on_scores = true,
       .ignores = true,
       .weighs = true,
       .numbers = {label_smoothing()},
       .formula = softmax_cross_entropy,
       .is_default = is_default},
      {.name = "negative_log_likelihood",
       .meaning = "negative log-likelihood of log-probabilities",
       .source = "torch.nn.NLLLoss",
       .labels = LossLabels::classes,
       .along = "classes",
       .ignores = true,
       .weighs = true,
       .formula = negative_log_likelihood},
      {.name = "kl_divergence",
       .meaning = "KL divergence of probabilities as labels from those of logits, log-probabilities or a final Softmax",
       .source = "torch.nn.KLDivLoss(reduction='batchmean') of log_softmax, per point; keras.losses.KLDivergence",
       .labels = LossLabels::shares,
       .along = "classes",
       .on_scores = true,
       .formula = kl_divergence},
      {.name = "focal",
       .meaning = "softmax cross-entropy that down-weights easy examples",
       .source = "Lin et al. 2017; keras.losses.CategoricalFocalCrossentropy",
       .labels = LossLabels::classes,
       .along = "classes",
       .on_scores = true,
       .ignores = true,
       .weighs = true,
       .numbers = focal_numbers(),
       .formula = focal},
  };
}

}  // namespace halfstep
