#include "training/step_ranks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "distributed/gather.h"
#include "passes/step/reduce_over_ranks.h"
#include "training/fingerprint.h"
#include "training/settings.h"
#include <halfstep/graph/precision.h>

namespace halfstep {
namespace {

std::string text_of(const LossTerm& term) {
  std::vector<std::string> parts;
  const auto add = [&](const char* name, const std::string& value) {
    parts.push_back(fmt::format("{}={}", name, value));
  };
  if (!term.output.empty()) add("output", term.output);
  add("labels", term.labels);
  if (term.class_axis) add("class axis", fmt::format("{}", *term.class_axis));
  if (term.ignore_label) add("ignored label", fmt::format("{}", *term.ignore_label));
  for (const auto& [name, value] : term.numbers) add(std::string(name).c_str(), fmt::format("{}", value));
  if (!term.labels_input.empty()) add("input", term.labels_input);
  if (term.weight != 1) add("weight", fmt::format("{}", term.weight));
  if (!term.class_weights.empty()) add("class weights", fmt::format("{}", fmt::join(term.class_weights, ",")));
  if (!term.sample_weights.empty()) add("sample weights", term.sample_weights);
  if (term.reduction == LossReduction::sum) add("reduction", "sum");
  return fmt::format("{} ({})", term.loss, fmt::join(parts, ", "));
}

std::string text_of(const std::optional<LossOptions>& loss) {
  if (!loss) return "by the labels";
  if (loss->function.write) return "a function";
  std::vector<std::string> terms;
  for (const LossTerm& term : loss->terms) terms.push_back(text_of(term));
  return fmt::format("{}", fmt::join(terms, " + "));
}

/// All that decides what the step computes.
Settings settings_of(const TrainingStepOptions& options, DType precision, const Graph& model,
                     std::span<const TensorInfo> parameters) {
  Settings all;
  add_optimizer(all, options.optimizer);
  all["version of halfstep"] = HALFSTEP_VERSION;
  all["model"] = fingerprint(model);
  all["parameters"] = checksum(model);
  for (const TensorInfo& parameter : parameters) all["type of " + parameter.name] = parameter.to_string();
  all["optimizer"] = options.optimizer.name;
  all["precision"] = precision_name(precision);
  all["loss"] = text_of(options.loss);
  all["learning rate"] = fmt::format("{}", options.learning_rate);
  all["seed"] = fmt::format("{}", options.mode.seed);
  all["training of BatchNormalization"] = options.mode.train_batchnorm ? "on" : "off";
  all["training of Dropout"] = options.mode.train_dropout ? "on" : "off";
  for (const auto& [name, axis] : options.batch_axes) all["batch axis of " + name] = fmt::format("{}", axis);
  return all;
}

const Tensor* find(const std::vector<std::string>& names, const std::string& name, const std::vector<Tensor>& tensors) {
  const auto at = std::ranges::find(names, name);
  return at == names.end() ? nullptr : &tensors[static_cast<std::size_t>(at - names.begin())];
}

}  // namespace

StepRanks::StepRanks(const TrainingStepOptions& options, DType precision, const Graph& model,
                     std::span<const TensorInfo> parameters)
    : ranks_(options.ranks) {
  if (!ranks_) return;
  require_same(*ranks_, settings_of(options, precision, model, parameters));
  options_ = {.ranks = ranks_->size()};
  // By the model's last parameters first, whose gradients the backward pass mostly gives first.
  const std::vector<TensorInfo> last_first(parameters.rbegin(), parameters.rend());
  for (const std::vector<std::size_t>& bucket : in_buckets(last_first, options_.bucket_bytes)) {
    std::vector<std::string>& names = options_.buckets.emplace_back();
    for (const std::size_t i : bucket) names.push_back(last_first[i].name);
  }
}

// A sum needs no share.
void StepRanks::agree_on_shares(const LossOptions& loss, const LossInputs& inputs,
                                std::span<const TermReading> readings, const FittedBatch& batch) {
  if (!ranks_) return;
  const std::vector<LossTerm>& terms = loss.terms;
  const Shape& first = batch.x.at(0).shape();
  const std::int64_t rows = first.rank() == 0 ? 1 : first[0];
  std::vector<double> weights(std::max<std::size_t>(1, terms.size()), static_cast<double>(rows));
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const Tensor* labels = find(inputs.labels, terms[i].labels, batch.labels);
    if (i >= readings.size() || !readings[i].row || !labels) continue;
    weights[i] = weight_of_labels(readings[i].reading, *labels, rows, terms[i].class_weights,
                                  find(inputs.sample_weights, terms[i].sample_weights, batch.sample_weights));
  }
  if (!agreement_) agreement_ = std::make_unique<StepAgreement>(ranks_.get(), weights.size());
  agreement_->exchange(weights, false, false);
  shares_.assign(agreement_->shares().begin(), agreement_->shares().end());
  for (std::size_t i = 0; i < terms.size(); ++i)
    if (terms[i].reduction == LossReduction::sum) shares_[i] = 1;
}

}  // namespace halfstep
