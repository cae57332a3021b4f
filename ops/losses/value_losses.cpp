// Losses of outputs that are to come near to numbers.
#include <numbers>

#include "ops/losses/loss_rows.h"

namespace halfstep {
namespace {

Expr distance(const LossOperands& o) { return o.y.builder().op("Abs", {o.y - o.labels}); }

Expr mean_squared_error(const LossOperands& o) {
  const Expr d = o.y - o.labels;
  return reduced(o, d * d);
}

Expr l1(const LossOperands& o) { return reduced(o, distance(o)); }

Expr huber(const LossOperands& o) {
  Builder& b = o.y.builder();
  const Expr d = distance(o), within = b.op("Min", {d, b.scalar(o.numbers[0], d.dtype())});
  return reduced(o, within * (d - within * 0.5));
}

/// log(cosh(d)) = d + log(1 + exp(-2d)) - log(2), which does not overflow.
Expr log_cosh(const LossOperands& o) {
  const Expr d = distance(o);
  return reduced(o, d + o.y.builder().op("Softplus", {d * -2}) - std::numbers::ln2);
}

Expr poisson_nll(const LossOperands& o) { return reduced(o, o.y.builder().op("Exp", {o.y}) - o.labels * o.y); }

Expr cosine_similarity(const LossOperands& o) {
  Builder& b = o.y.builder();
  const auto sum = [&](Expr x) { return b.reduce_sum(x, {static_cast<std::int64_t>(o.axis)}, false); };
  const auto length = [&](Expr x) { return b.op("Sqrt", {sum(x * x) + 1e-12}); };
  return reduced(o, 1 - sum(o.y * o.labels) / (length(o.y) * length(o.labels)));
}

std::optional<std::string_view> is_default(const LossFacts& f) {
  if (!f.for_each_element) return "";
  if (f.single) return f.integer ? "the labels are integers beyond 0 and 1 for a single output" : "";
  if (f.integer) return "the labels are integers of the output's shape, but not one-hot";
  if (f.from_zero_to_one)
    return "the labels are numbers from 0 to 1 (softmax_cross_entropy takes them as probabilities)";
  return "";
}

}  // namespace

std::vector<LossDef> value_losses() {
  return {
      {.name = "mean_squared_error",
       .meaning = "of numbers",
       .source = "torch.nn.MSELoss",
       .labels = LossLabels::values,
       .formula = mean_squared_error,
       .is_default = is_default},
      {.name = "l1",
       .meaning = "mean absolute error",
       .source = "torch.nn.L1Loss",
       .labels = LossLabels::values,
       .formula = l1},
      {.name = "huber",
       .meaning = "quadratic up to --huber-delta from the label, linear beyond",
       .source = "torch.nn.HuberLoss",
       .labels = LossLabels::values,
       .numbers = {{.name = "huber-delta",
                    .meaning = "distance from the label beyond which huber is linear",
                    .fallback = 1,
                    .lowest = 0,
                    .highest = 1e30,
                    .above_lowest = true}},
       .formula = huber},
      {.name = "log_cosh",
       .meaning = "squared near the label, linear beyond, smooth in between",
       .source = "keras.losses.LogCosh",
       .labels = LossLabels::values,
       .formula = log_cosh},
      {.name = "poisson_nll",
       .meaning = "Poisson negative log-likelihood of counts; the output is the logarithm of their mean",
       .source = "torch.nn.PoissonNLLLoss",
       .labels = LossLabels::values,
       .formula = poisson_nll},
      {.name = "cosine_similarity",
       .meaning = "1 minus the cosine similarity of vectors along --class-axis",
       .source = "torch.nn.CosineEmbeddingLoss with target 1; 1 more than keras.losses.CosineSimilarity",
       .labels = LossLabels::values,
       .along = "vectors",
       .formula = cosine_similarity},
  };
}

}  // namespace halfstep
