#include "training/epoch_sums.h"

#include <array>
#include <string>

#include "training/over_ranks.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

// Names in a state; those of metrics follow theirs.
constexpr const char *kLoss = "loss", *kLastStep = "last step";
constexpr std::string_view kMetric = "metric ";

constexpr std::array kNumbers{&StepResult::loss, &StepResult::learning_rate, &StepResult::loss_scale,
                              &StepResult::grad_norm};

[[noreturn]] void throw_strange() {
  throw_input_error("the sums of a run over its epoch in a checkpoint", "others",
                    "resume from a checkpoint at the end of an epoch");
}

}  // namespace

void EpochSums::reset() {
  loss_.reset();
  metrics_.reset();
  is_merged_ = false;
}

void EpochSums::add(const StepProgram& program, const Batch& batch, std::span<const double> weights) {
  loss_.add(program, weights);
  if (metrics_.size() > 0 && !batch.is_spare) task_.measure(metrics_, program, batch);
  is_merged_ = false;
}

void EpochSums::merge(Communicator& ranks) {
  if (is_merged_ || metrics_.size() == 0) return;
  merged_ = metrics_;
  Metrics* const all[]{&merged_};
  halfstep::merge(ranks, {}, all);
  is_merged_ = true;
}

void EpochSums::tell(StepResult& result) const {
  result.mean_loss = loss_.is_empty() ? 0 : loss_.value();
  result.metrics = is_merged_ ? &merged_ : &metrics_;
}

NamedTensors EpochSums::state(const StepResult& last) const {
  Tensor numbers(DType::f32, {static_cast<std::int64_t>(kNumbers.size())});
  for (std::size_t i = 0; i < kNumbers.size(); ++i) numbers.data<float>()[i] = last.*kNumbers[i];
  NamedTensors state{{kLoss, loss_.state()}, {kLastStep, numbers}};
  for (auto& [name, tensor] : (is_merged_ ? merged_ : metrics_).state()) state[std::string(kMetric) + name] = tensor;
  return state;
}

void EpochSums::load(const NamedTensors& state, StepResult& last, bool is_first) {
  const auto loss = state.find(kLoss), numbers = state.find(kLastStep);
  if (loss == state.end() || numbers == state.end() || numbers->second.dtype() != DType::f32 ||
      numbers->second.count() != static_cast<std::int64_t>(kNumbers.size()))
    throw_strange();
  // Another loss starts anew: a line about the options has told of it.
  if (!loss_.load_state(loss->second)) return;
  NamedTensors metrics;
  for (const auto& [name, tensor] : state)
    if (name.starts_with(kMetric)) metrics[name.substr(kMetric.size())] = tensor;
  if (is_first) metrics_.load_state(metrics);
  for (std::size_t i = 0; i < kNumbers.size(); ++i) last.*kNumbers[i] = numbers->second.data<float>()[i];
}

}  // namespace halfstep
