#include "training/step_cache.h"

#include <algorithm>
#include <utility>

#include "base/machine_memory.h"
#include "passes/step/step_values.h"
#include "session/tensor_types.h"
#include "training/memory_budget.h"

namespace halfstep {
namespace {

FittedBatch types_only(const FittedBatch& batch) {
  const auto types = [](const std::vector<Tensor>& tensors) {
    std::vector<Tensor> result;
    static std::byte nothing;
    for (const Tensor& t : tensors) result.push_back(Tensor::view(t.dtype(), t.shape(), &nothing));
    return result;
  };
  return {types(batch.x), types(batch.labels), types(batch.sample_weights), batch.label_names};
}

}  // namespace

StepCache::StepCache(PreparedModel& model, const std::vector<TensorInfo>& inputs, Executor& executor,
                     TrainedStates& states, std::size_t most, std::size_t memory_budget, PassObserver observer)
    : model_(model),
      inputs_(inputs),
      executor_(executor),
      states_(states),
      most_(most),
      memory_budget_(memory_budget),
      observer_(std::move(observer)) {}

CompiledStep& StepCache::find(const StepKey& key, const FittedBatch& batch,
                              const std::function<StepOptions()>& options) {
  const auto is_for = [&](const CompiledStep& c) { return c.key == key && c.like.is_like(batch); };
  const auto found = std::ranges::find_if(programs_, is_for);
  if (found != programs_.end()) {
    programs_.splice(programs_.begin(), programs_, found);
  } else {
    programs_.push_front(compile(key, batch, options()));
    if (programs_.size() > most_) programs_.pop_back();
  }
  return programs_.front();
}

Graph StepCache::lower(const StepKey& key, const FittedBatch& batch, StepOptions options,
                       const PassObserver& observer) const {
  for (std::size_t i = 0; i < inputs_.size(); ++i) options.shapes.by_name[inputs_[i].name] = batch.x[i].shape();
  if (has_loss(key.purpose)) options.loss = with_types(options.loss, batch);
  return model_.lower(key.purpose, options, executor_.capabilities(), observer);
}

CompiledStep StepCache::compile(const StepKey& key, const FittedBatch& batch, const StepOptions& options) {
  const Graph graph = lower(key, batch, options, observer_);
  const bool trains = key.purpose == Purpose::training || key.purpose == Purpose::gradients;
  StepProgram program =
      std::move(*compile_within(trains ? memory_budget_ : 0, graph, executor_, states_.store(), observer_));
  CompiledStep compiled{key, types_only(batch), std::move(program), {}, {}};
  compiled.outputs = output_names(key, options);
  states_.bind(graph);
  model_.release_parameters([this](const std::string& name) { return states_.store().has(name); });
  if (programs_.empty()) return_free_memory();  // what was needed for the model, not for one more program
  for (const StepValues::Parameter& parameter : StepValues(graph).parameters)
    if (parameter.accumulator != kNoValue)
      compiled.sums[graph[parameter.value].name] = graph[parameter.accumulator].name;
  return compiled;
}

std::vector<std::string> StepCache::output_names(const StepKey& key, const StepOptions& options) const {
  const Graph& graph = model_.graph();
  std::string own;
  if (has_loss(key.purpose) && !options.loss.function.write)
    for (const LossTerm& term : options.loss.terms)
      if (!loss_named(term.loss).formula) own = term.output.empty() ? graph[graph.outputs.front()].name : term.output;
  std::vector<std::string> names;
  for (const TensorInfo& output : types_of(graph, graph.outputs))
    if (output.name != own) names.push_back(output.name);
  return names;
}

}  // namespace halfstep
