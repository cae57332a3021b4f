#include "graph/bodies.h"
#include "passes/load/random_numbers.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// The running statistic read by input i of a BatchNormalization, as a state.
ValueId statistic_state(Graph& graph, const Node& node, std::size_t i) {
  const ValueId id = node.inputs[i];
  if (const std::ptrdiff_t index = graph.state_of(id); index >= 0) {
    State& state = graph.states[index];
    state.role = StateRole::statistic;
    if (state.next == kNoValue) return id;
    // Two layers read what the exporter merged: each gets running statistics of its own.
    const Tensor initial = state.initial;
    return graph.add_state(graph[id].name, initial.clone(), StateRole::statistic);
  }
  Value& value = graph[id];
  if (!value.is_constant())
    throw_input_error("BatchNormalization whose running statistics are initializers",
                      "'" + value.name + "' computed by the graph, read by '" + node.name + "'",
                      "freeze its statistics (--freeze-batchnorm) or export the model again");
  graph.states.push_back({.value = id, .role = StateRole::statistic, .initial = value.constant});
  value.constant = Tensor();
  return id;
}

void train_batchnorm(Graph& graph, std::size_t index) {
  for (std::size_t i : {3u, 4u}) {
    const ValueId state_value = statistic_state(graph, graph.nodes[index], i);
    State& state = graph.states[graph.state_of(state_value)];
    const Graph::Edit node = graph.edit(index);
    node->inputs[i] = state_value;
    node->outputs.resize(std::max<std::size_t>(node->outputs.size(), i - 1), kNoValue);
    if (node->outputs[i - 2] == kNoValue) {
      const Value like = graph[state_value];
      node->outputs[i - 2] = graph.add_value(like.name + ".next", like.dtype, like.shape);
    }
    state.next = node->outputs[i - 2];
  }
  graph.edit(index)->attributes.set("training_mode", std::int64_t{1});
  infer_node(graph, graph.nodes[index]);
}

void train_dropout(Graph& graph, std::size_t index, ValueId counter, std::int64_t seed, std::int64_t stream) {
  const Graph::Edit opened = graph.edit(index);
  Node& node = *opened;
  ValueId ratio = node.input(1);
  if (ratio == kNoValue) ratio = graph.add_constant(node.name + ".ratio", Tensor::scalar(0.5f));
  if (!graph[ratio].is_constant())
    throw_input_error("Dropout whose ratio is a constant", "'" + graph[ratio].name + "' computed by the graph",
                      "export the model with a fixed ratio");
  if (graph[ratio].dtype != DType::f32)
    ratio = graph.add_constant(node.name + ".ratio", convert(graph[ratio].constant, DType::f32));
  node.op = "PhiloxDropout";
  node.domain = kOwnDomain;
  node.inputs = {node.inputs[0], ratio, counter};
  node.outputs.resize(2, kNoValue);
  if (node.outputs[1] == kNoValue) node.outputs[1] = graph.add_value(node.name + ".mask");
  node.attributes = {{"seed", seed}, {"stream", stream}};
  infer_node(graph, node);
}

// Whoever reads `from` reads `to`; an output keeps its name.
void pass_on(Graph& graph, ValueId from, ValueId to) {
  if (from == kNoValue) return;
  if (!graph.is_output(from)) {
    graph.replace_uses(from, to);
    return;
  }
  graph.define({from}, "Identity", kOnnxDomain, {to}, {}, graph[from].name);
}

void stop_batchnorm(Graph& graph, std::size_t index) {
  const Node before = graph.nodes[index];
  graph.edit(index)->attributes.remove("training_mode");
  graph.edit(index)->outputs.resize(1);
  pass_on(graph, before.output(1), before.inputs[3]);
  pass_on(graph, before.output(2), before.inputs[4]);
}

// Whether the node is still needed: it gives a mask, which says that nothing was dropped.
bool stop_dropout(Graph& graph, std::size_t index) {
  if (graph.is_read(graph.nodes[index].output(1))) {
    graph.edit(index)->inputs.resize(1);
    graph.edit(index)->attributes = {};
    return true;
  }
  const ValueId x = graph.nodes[index].inputs[0], y = graph.nodes[index].outputs[0];
  graph.edit(index)->outputs.clear();
  pass_on(graph, y, x);
  return false;
}

// Which operators take their inference form.
struct Stopped {
  bool batchnorm = true, dropout = true;
};

void leave_training(Graph& graph, Stopped stopped) {
  const std::size_t count = graph.nodes.size();  // pass_on appends more
  std::vector<bool> gone(count, false);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    if (node.is("BatchNormalization") && stopped.batchnorm) {
      stop_batchnorm(graph, i);
    } else if (node.is("Dropout") && stopped.dropout) {
      gone[i] = !stop_dropout(graph, i);
    } else if (has_body(node)) {
      const Graph::Edit opened = graph.edit(i);
      change_bodies(*opened, [&](Graph& body) { leave_training(body, stopped); });
    }
  }
  graph.remove_nodes(gone);
  graph.sort();
}

bool drops(const Graph& graph, const Node& node) {
  const ValueId ratio = node.input(1);
  return ratio == kNoValue || !graph[ratio].is_constant() || to_doubles(graph[ratio].constant)[0] > 0;
}

}  // namespace

Pass to_training_mode(TrainingModeOptions options) {
  return {"to_training_mode", [options](Graph& graph) {
            graph.opsets.try_emplace(std::string(kOwnDomain), 1);
            if (!options.train_batchnorm || !options.train_dropout)
              leave_training(graph, {.batchnorm = !options.train_batchnorm, .dropout = !options.train_dropout});
            std::int64_t streams = 0;
            for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
              if (graph.nodes[i].is("BatchNormalization") && options.train_batchnorm) train_batchnorm(graph, i);
              if (graph.nodes[i].is("Dropout") && options.train_dropout && drops(graph, graph.nodes[i]))
                train_dropout(graph, i, step_counter(graph), options.seed, streams++);
            }
          }};
}

Pass statistics_to_states() {
  return {"statistics_to_states", [](Graph& graph) {
            for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
              if (!graph.nodes[i].is("BatchNormalization")) continue;
              for (std::size_t k : {3u, 4u}) {
                const ValueId state = statistic_state(graph, graph.nodes[i], k);
                graph.edit(i)->inputs[k] = state;
                // Marks it as taken, so that the next layer that reads the same one gets its own, as in training.
                graph.states[graph.state_of(state)].next = state;
              }
            }
          }};
}

Pass to_inference_mode() {
  return {"to_inference_mode", [](Graph& graph) { leave_training(graph, {}); }};
}

}  // namespace halfstep
