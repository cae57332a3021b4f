#include "training/step_ranks.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "distributed/gather.h"
#include "passes/step/reduce_over_ranks.h"
#include "passes/step/shard_optimizer.h"
#include "training/settings.h"
#include "training/start.h"
#include "training/whole_state.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep {

StepRanks::StepRanks(const TrainingStepOptions& options, std::optional<DType> precision, const Graph& model,
                     std::span<const TensorInfo> parameters)
    : ranks_(options.ranks), optimizer_(options.optimizer.name) {
  if (!ranks_) return;
  if (!options.loss)
    throw_input_error("a loss that is named, on several ranks", "none",
                      "set TrainingStepOptions::loss: each would choose by labels of its own rows");
  options_ = rank_options(options);
  StepOptions step;
  step.precision = precision.value_or(DType::f32);
  step.loss = *options.loss;
  step.mode = options.mode;
  step.optimizer = options.optimizer;
  step.ranks = options_;
  Settings all = step_settings(step, model, parameters, options.batch_axes);
  if (!precision) all[kPrecisionSetting] = name_of(options.precision);
  all["learning rate"] = fmt::format("{}", options.learning_rate);
  all["seed"] = fmt::format("{}", options.mode.seed);
  require_same(*ranks_, all);
  // By the model's last parameters first, whose gradients the backward pass mostly gives first.
  const std::vector<TensorInfo> last_first(parameters.rbegin(), parameters.rend());
  for (const std::vector<std::size_t>& bucket : in_buckets(last_first, options_.bucket_bytes)) {
    std::vector<std::string>& names = options_.buckets.emplace_back();
    for (const std::size_t i : bucket) names.push_back(last_first[i].name);
  }
  // By all that is trained: a step that gives gradients of some leaves the moments where they are.
  if (options_.sharded_optimizer) options_.owners = owners_of(parameters, options_.ranks);
  is_sum_.resize(1);
  if (!options.loss->function.write) {
    is_sum_.clear();
    for (const LossTerm& term : options.loss->terms) is_sum_.push_back(term.reduction == LossReduction::sum);
  }
  agreement_ = std::make_unique<StepAgreement>(ranks_.get(), is_sum_.size());
}

void StepRanks::agree_on_shares(std::span<const double> weights, std::uint32_t order, double& learning_rate) {
  if (!ranks_) return;
  agreement_->exchange(weights, false, order, {.learning_rate = learning_rate});
  learning_rate = agreement_->wishes().learning_rate.value_or(learning_rate);
  shares_.assign(agreement_->shares().begin(), agreement_->shares().end());
  for (std::size_t i = 0; i < is_sum_.size(); ++i)
    if (is_sum_[i]) shares_[i] = 1;
}

void StepRanks::agree_on_learning_rate(double& learning_rate) const {
  if (ranks_) ranks_->broadcast(&learning_rate, sizeof learning_rate, 0);
}

void StepRanks::add_moments_of_others(NamedTensors& states) const {
  if (options_.owners.empty()) return;
  std::vector<OwnedState> own;
  for (const auto& [name, tensor] : states)
    own.push_back({.type = {name, tensor.dtype(), tensor.shape()}, .name = name});
  for (const OwnedState& state : states_of_ranks(*ranks_, own)) {
    if (state.ranks == options_.ranks) continue;
    const std::string& name = state.type.name;
    Tensor tensor = options_.rank == state.owner ? states.at(name) : Tensor(state.type.dtype, state.type.shape);
    broadcast(*ranks_, tensor, state.owner);
    states[name] = std::move(tensor);
  }
}

void StepRanks::remove_moments_of_others(NamedTensors& states) const {
  for (const auto& [parameter, owner] : options_.owners) {
    if (owner == options_.rank) continue;
    for (const OptimizerSlot& slot : optimizer_named(optimizer_).slots)
      states.erase(std::string(slot.prefix) + parameter);
  }
}

void StepRanks::sum_residuals(NamedTensors& states) const {
  if (!ranks_) return;
  for (auto& [name, state] : states)
    if (name.starts_with(kResidualPrefix)) state = sum_of(*ranks_, state);
}

void StepRanks::share_residuals(NamedTensors& states) const {
  if (!ranks_) return;
  for (auto& [name, state] : states)
    if (name.starts_with(kResidualPrefix) && state.dtype() == DType::f32) state = share_of(*ranks_, state);
}

}  // namespace halfstep
