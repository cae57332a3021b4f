// Losses of outputs whose elements have the targets 0 or 1.
#include "ops/losses/loss_rows.h"

namespace halfstep {
namespace {

/// each(y, t) of the elements that are not ignored, weighted by class and reduced.
template <class Each>
Expr reduced_of(const LossOperands& o, double smoothing, const Each& each) {
  Builder& b = o.y.builder();
  const Expr zero = b.scalar(0, o.y.dtype());
  const Expr ignored = o.ignored ? is_ignored(o) : Expr();
  const Expr labels = ignored ? b.op("Where", {ignored, zero, o.labels}) : o.labels;
  Expr losses = each(o.y, smoothing == 0 ? labels : labels * (1 - smoothing) + smoothing / 2);
  if (!o.class_weights.empty())
    losses = losses * (labels * (o.class_weights.at(1) - o.class_weights[0]) + o.class_weights[0]);
  return reduced(o, ignored ? b.op("Where", {ignored, zero, losses}) : losses);
}

Expr binary_cross_entropy(const LossOperands& o) {
  return reduced_of(o, o.numbers[0], [](Expr y, Expr t) {
    Builder& b = y.builder();
    // Probabilities clamped away from 0 and 1 by Keras' epsilon, so that a confident mistake has a finite loss.
    const Expr p = b.op("Clip", {y, b.scalar(1e-7, y.dtype()), b.scalar(1 - 1e-7, y.dtype())});
    return -(t * b.op("Log", {p}) + (1 - t) * b.op("Log", {1 - p}));
  });
}

/// softplus(y) - t*y, which does not overflow.
Expr cross_entropy_of_logits(Expr y, Expr t) { return y.builder().op("Softplus", {y}) - t * y; }

Expr binary_cross_entropy_logits(const LossOperands& o) { return reduced_of(o, o.numbers[0], cross_entropy_of_logits); }

Expr binary_focal(const LossOperands& o) {
  const double gamma = o.numbers[0], alpha = o.numbers[1];
  return reduced_of(o, 0, [&](Expr y, Expr t) {
    Builder& b = y.builder();
    const Expr miss = t * b.op("Sigmoid", {-y}) + (1 - t) * b.op("Sigmoid", {y});
    return (t * (2 * alpha - 1) + (1 - alpha)) * focal_weight(miss, gamma) * cross_entropy_of_logits(y, t);
  });
}

std::optional<std::string_view> is_default(const LossFacts& f) {
  if (!f.for_each_element) return std::nullopt;
  if (f.single && f.integer) return f.zero_one_or_ignored ? std::optional<std::string_view>("") : std::nullopt;
  if (f.last_operator == "Sigmoid") return "";
  if (!f.zeros_and_ones) return std::nullopt;
  return f.single ? "the labels are 0 and 1" : "the labels are 0 and 1, with several or no 1 per row";
}
std::optional<std::string_view> is_default_of_probabilities(const LossFacts& f) {
  return f.last_operator == "Sigmoid" ? is_default(f) : std::nullopt;
}

}  // namespace

std::vector<LossDef> binary_losses() {
  return {
      {.name = "binary_cross_entropy",
       .meaning = "binary cross-entropy of probabilities",
       .source = "torch.nn.BCELoss; keras.losses.BinaryCrossentropy",
       .labels = LossLabels::binary,
       .ignores = true,
       .weighs = true,
       .numbers = {label_smoothing()},
       .formula = binary_cross_entropy,
       .is_default = is_default_of_probabilities},
      {.name = "binary_cross_entropy_logits",
       .meaning = "binary cross-entropy of logits (before a Sigmoid)",
       .source = "torch.nn.BCEWithLogitsLoss",
       .labels = LossLabels::binary,
       .ignores = true,
       .weighs = true,
       .threshold = 0,
       .numbers = {label_smoothing()},
       .formula = binary_cross_entropy_logits,
       .is_default = is_default},
      {.name = "binary_focal",
       .meaning = "binary cross-entropy of logits that down-weights easy examples",
       .source = "Lin et al. 2017; torchvision.ops.sigmoid_focal_loss",
       .labels = LossLabels::binary,
       .ignores = true,
       .weighs = true,
       .threshold = 0,
       .numbers = focal_numbers(),
       .formula = binary_focal},
  };
}

}  // namespace halfstep
