#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "graph/placeholder.h"
#include "ops/fold.h"
#include "passes/load/free_batch.h"
#include "passes/load/parameter_choice.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/passes/prepared_model.h>

namespace halfstep {
namespace {

// Shows stages as those that follow the first `before`.
PassObserver continued(const PassObserver& observer, std::size_t before) {
  if (!observer) return {};
  return [observer, before](std::size_t stage, const std::string& pass, const Graph& graph) {
    if (stage > 0) observer(before + stage, pass, graph);
  };
}

// What the BatchNormalizations of the graph have as running statistics, whatever is done to it before.
std::set<ValueId> running_statistics(const Graph& graph) {
  std::set<ValueId> found;
  for (const Node& node : graph.nodes) {
    if (!node.is("BatchNormalization")) continue;
    for (const std::size_t i : {3u, 4u}) {
      ValueId id = node.input(i);
      while (id != kNoValue && graph.producer(id)) id = graph.producer(id)->input(0);
      found.insert(id);
    }
  }
  return found;
}

// Computes transpositions and conversions of constants now, once for the programs of all batches. Whatever else could
// be computed may have the batch that the model was exported for in its shape.
void move_constants(Graph& graph) {
  std::vector<bool> gone(graph.nodes.size(), false);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Movement movement = traits_of(graph.nodes[n]).movement;
    if (movement != Movement::permute && movement != Movement::convert) continue;
    const auto is_known = [&](ValueId in) { return in != kNoValue && graph[in].is_constant(); };
    if (!std::ranges::all_of(graph.nodes[n].inputs, is_known)) continue;
    {
      const Graph::Edit node = graph.edit(n);
      infer_node(graph, *node);
    }
    gone[n] = fold_node(graph, graph.nodes[n]);
  }
  graph.remove_nodes(gone);
}

}  // namespace

PreparedModel::PreparedModel(Graph model, const PreparationOptions& options)
    : searches_(std::make_shared<BatchSearches>()) {
  if (!options.batch_axes.empty()) model = run_pipeline(std::move(model), {batch_first(options.batch_axes)});
  const Pipeline repair = repair_pipeline(options.parameters ? Purpose::training : Purpose::inference);
  repaired_ = run_pipeline(std::move(model), repair, options.observer);
  stages_ = repair.size();
  if (!options.parameters) {
    move_constants(repaired_);
    return;
  }
  // Nothing of such a model is used, so nothing would be found to train.
  if (repaired_.outputs.empty()) throw_input_error("a model with an output", "none", "export the model again");
  std::vector<ParameterChoice> choices = choose_parameters(repaired_, *options.parameters);
  guesses_ = guesses_of(repaired_, choices);
  trainable_ = run_pipeline(repaired_, {select_parameters(std::move(choices))}, continued(options.observer, stages_));
  ++stages_;
}

void PreparedModel::release_parameters(const std::function<bool(const std::string& name)>& has) {
  const std::set<ValueId> statistics = running_statistics(trainable_.value());
  for (State& state : trainable_->states) {
    const std::string& name = (*trainable_)[state.value].name;
    if (state.role != StateRole::parameter || !has(name)) continue;
    if (statistics.contains(state.value)) continue;  // those of a later program may begin with it
    const ValueId constant = repaired_.find(name);
    state.initial = placeholder_of(state.initial);
    if (constant != kNoValue && repaired_[constant].is_constant())
      repaired_[constant].constant = placeholder_of(repaired_[constant].constant);
  }
}

Graph PreparedModel::lower(Purpose purpose, const StepOptions& options, const Capabilities& capabilities,
                           const PassObserver& observer) const {
  if (has_parameters(purpose) != trainable_.has_value())
    throw_failure(has_parameters(purpose) ? "a model prepared with parameters" : "a model prepared without parameters",
                  "another", "");
  Pipeline pipeline = lowering_pipeline(purpose, options, capabilities);
  pipeline.front() = bind_shapes(options.shapes, searches_);  // the same pass, which need not search again
  return run_pipeline(prepared(), pipeline, continued(observer, stages_));
}

const std::string& PreparedModel::batch_obstacle() const {
  if (!obstacle_) obstacle_ = batch_obstacle_of_repaired(prepared(), searches_);
  return *obstacle_;
}

Graph PreparedModel::bound(InputShapes shapes) const {
  return run_pipeline(prepared(), {bind_shapes(std::move(shapes), searches_), fold_constants()});
}

}  // namespace halfstep
