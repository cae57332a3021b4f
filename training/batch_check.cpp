#include "training/batch_check.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "data/label_limits.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/losses/loss_def.h>

namespace halfstep {
namespace {

/// One pass without a branch for the batches that are right.
template <class T, class Valid>
std::optional<std::size_t> first_invalid(std::span<const T> values, const Valid& valid) {
  bool all = true;
  for (const T value : values) all = all & valid(value);
  if (all) return {};
  return static_cast<std::size_t>(std::ranges::find_if_not(values, valid) - values.begin());
}

std::size_t row_of(const Tensor& tensor, std::size_t element) {
  const std::int64_t rows = tensor.shape().rank() == 0 ? 1 : tensor.shape()[0];
  return element / static_cast<std::size_t>(tensor.count() / rows);
}

template <class T>
void check_probabilities(const Tensor& labels, const std::string& name, std::optional<std::int64_t> ignored) {
  const std::span<const T> all = labels.span<T>();
  const T skipped = static_cast<T>(ignored.value_or(0));
  const auto invalid =
      first_invalid(all, [skipped](T label) -> bool { return is_probability(label) | (label == skipped); });
  if (invalid)
    throw_input_error(required_probabilities(ignored),
                      fmt::format("{} in row {} of '{}'", all[*invalid], row_of(labels, *invalid), name),
                      "check the labels, or choose another loss");
}

}  // namespace

BatchCheck::BatchCheck(const LossOptions& loss, const LossInputs& inputs) {
  if (inputs.any) return;
  weights_ = inputs.sample_weights;
  for (const LossTerm& term : loss.terms) {
    const LossDef& row = loss_named(term.loss);
    const std::optional<std::size_t> place = place_in(inputs.labels, term.labels);
    if (!place || (row.labels != LossLabels::binary && row.labels != LossLabels::shares)) continue;
    probabilities_.push_back({term.labels, *place, row.ignores ? term.ignore_label : std::nullopt});
  }
}

void BatchCheck::check(const FittedBatch& batch) const {
  for (const Labels& wanted : probabilities_) {
    const Tensor& labels = batch.labels[wanted.place];
    if (labels.dtype() == DType::i64)
      check_probabilities<std::int64_t>(labels, wanted.name, wanted.ignored);
    else
      check_probabilities<float>(labels, wanted.name, wanted.ignored);
  }
  for (std::size_t i = 0; i < batch.sample_weights.size(); ++i) {
    const Tensor& weights = batch.sample_weights[i];
    const std::span<const float> all = weights.span<float>();
    if (const auto invalid = first_invalid(all, is_sample_weight))
      throw_input_error(required_weights(),
                        fmt::format("{} in row {} of '{}'", all[*invalid], row_of(weights, *invalid), weights_[i]),
                        "check the weights");
  }
}

}  // namespace halfstep
