// Losses of outputs that have a number for each class along one axis.
#include "ops/losses/loss_rows.h"

namespace halfstep {
namespace {

/// Scores with their classes along axis 1, and a label for each point: what SoftmaxCrossEntropyLoss wants.
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

/// Cross-entropy of class indices, reduced so.
Expr cross_entropy_of_indices(const LossOperands& o, const char* reduction) {
  const ClassRows rows = class_rows(o);
  Attributes attributes{{"reduction", std::string(reduction)}};
  if (o.ignored) attributes.set("ignore_index", *o.ignored);
  return o.y.builder().multi("SoftmaxCrossEntropyLoss", kOnnxDomain, {rows.scores, rows.labels}, 2,
                             std::move(attributes))[0];
}

Expr log_softmax(const LossOperands& o) {
  return o.y.builder().op("LogSoftmax", {o.y}, {{"axis", static_cast<std::int64_t>(o.axis)}});
}

Expr sum_over_classes(const LossOperands& o, Expr x) {
  return x.builder().reduce_sum(x, {static_cast<std::int64_t>(o.axis)}, false);
}

Expr softmax_cross_entropy(const LossOperands& o) {
  if (o.indices) return cross_entropy_of_indices(o, "mean");
  return loss_mean(-sum_over_classes(o, o.labels * log_softmax(o)));
}

Expr negative_log_likelihood(const LossOperands& o) {
  if (!o.indices) return loss_mean(-sum_over_classes(o, o.labels * o.y));
  const ClassRows rows = class_rows(o);
  Attributes attributes{{"reduction", std::string("mean")}};
  if (o.ignored) attributes.set("ignore_index", *o.ignored);
  return o.y.builder().op("NegativeLogLikelihoodLoss", {rows.scores, rows.labels}, std::move(attributes));
}

Expr kl_divergence(const LossOperands& o) {
  Builder& b = o.y.builder();
  // A share of 0 contributes 0.
  const Expr log_share = b.op("Log", {b.op("Max", {o.labels, b.scalar(1e-30, o.labels.dtype())})});
  return loss_mean(sum_over_classes(o, o.labels * (log_share - log_softmax(o))));
}

Expr focal(const LossOperands& o) {
  Builder& b = o.y.builder();
  const double gamma = o.numbers[0], alpha = o.numbers[1];
  if (o.indices) {
    const Expr loss = cross_entropy_of_indices(o, "none");
    const Expr weighted = focal_weight(1 - b.op("Exp", {-loss}), gamma) * loss * alpha;
    return o.ignored ? loss_mean_of_counted(weighted, o.labels, *o.ignored) : loss_mean(weighted);
  }
  const Expr log_prob = log_softmax(o);
  const Expr weighted = focal_weight(1 - b.op("Exp", {log_prob}), gamma) * o.labels * log_prob;
  return loss_mean(sum_over_classes(o, weighted)) * -alpha;
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
      {.kind = LossKind::softmax_cross_entropy,
       .name = "softmax_cross_entropy",
       .meaning = "of scores, or of a model that ends in a Softmax",
       .source = "torch.nn.CrossEntropyLoss",
       .labels = LossLabels::classes,
       .along = "classes",
       .on_scores = true,
       .ignores = true,
       .formula = softmax_cross_entropy,
       .is_default = is_default},
      {.kind = LossKind::negative_log_likelihood,
       .name = "negative_log_likelihood",
       .meaning = "of log-probabilities",
       .source = "torch.nn.NLLLoss",
       .labels = LossLabels::classes,
       .along = "classes",
       .ignores = true,
       .formula = negative_log_likelihood},
      {.kind = LossKind::kl_divergence,
       .name = "kl_divergence",
       .meaning = "from labels that are probabilities to those of scores, log-probabilities or a final Softmax",
       .source = "torch.nn.KLDivLoss(reduction='batchmean') of log_softmax, per point; keras.losses.KLDivergence",
       .labels = LossLabels::shares,
       .along = "classes",
       .on_scores = true,
       .formula = kl_divergence},
      {.kind = LossKind::focal,
       .name = "focal",
       .meaning = "softmax cross-entropy that weighs less what is nearly right",
       .source = "Lin et al. 2017; keras.losses.CategoricalFocalCrossentropy",
       .labels = LossLabels::classes,
       .along = "classes",
       .on_scores = true,
       .ignores = true,
       .numbers = focal_numbers(),
       .formula = focal},
  };
}

}  // namespace halfstep
