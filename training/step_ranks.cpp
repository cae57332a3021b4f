#include "training/step_ranks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <fmt/format.h>

#include "distributed/gather.h"
#include "passes/step/reduce_over_ranks.h"
#include "training/settings.h"
#include "training/term_weights.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep {
StepRanks::StepRanks(const TrainingStepOptions& options, DType precision, const Graph& model,
                     std::span<const TensorInfo> parameters)
    : ranks_(options.ranks) {
  if (!ranks_) return;
  if (!options.loss)
    throw_input_error("a loss that is named, on several ranks", "none",
                      "set TrainingStepOptions::loss: each would choose by labels of its own rows");
  options_ = {.ranks = ranks_->size()};
  StepOptions step;
  step.precision = precision;
  step.loss = *options.loss;
  step.mode = options.mode;
  step.optimizer = options.optimizer;
  step.ranks = options_;
  Settings all = step_settings(step, model, parameters, options.batch_axes);
  all["learning rate"] = fmt::format("{}", options.learning_rate);
  all["seed"] = fmt::format("{}", options.mode.seed);
  require_same(*ranks_, all);
  // By the model's last parameters first, whose gradients the backward pass mostly gives first.
  const std::vector<TensorInfo> last_first(parameters.rbegin(), parameters.rend());
  for (const std::vector<std::size_t>& bucket : in_buckets(last_first, options_.bucket_bytes)) {
    std::vector<std::string>& names = options_.buckets.emplace_back();
    for (const std::size_t i : bucket) names.push_back(last_first[i].name);
  }
}

// A sum needs no share.
void StepRanks::agree_on_shares(const LossOptions& loss, const LossInputs& inputs,
                                std::span<const TermReading> readings, const FittedBatch& batch, std::uint32_t order,
                                double& learning_rate) {
  if (!ranks_) return;
  const std::vector<LossTerm>& terms = loss.terms;
  const std::vector<double> weights = term_weights(loss, inputs, readings, batch);
  if (!agreement_) agreement_ = std::make_unique<StepAgreement>(ranks_.get(), weights.size());
  agreement_->exchange(weights, false, order, {.learning_rate = learning_rate});
  learning_rate = agreement_->wishes().learning_rate.value_or(learning_rate);
  shares_.assign(agreement_->shares().begin(), agreement_->shares().end());
  for (std::size_t i = 0; i < terms.size(); ++i)
    if (terms[i].reduction == LossReduction::sum) shares_[i] = 1;
}

}  // namespace halfstep
