#include <algorithm>

#include <fnmatch.h>

#include "graph/error.h"
#include "passes/passes.h"

namespace halfstep {
namespace {

bool matches(const std::vector<std::string>& patterns, const std::string& name, std::vector<bool>& used) {
  bool any = false;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (fnmatch(patterns[i].c_str(), name.c_str(), 0) != 0) continue;
    used[i] = true;
    any = true;
  }
  return any;
}

void require_used(const std::vector<std::string>& patterns, const std::vector<bool>& used, const std::string& names) {
  for (std::size_t i = 0; i < patterns.size(); ++i)
    if (!used[i])
      throw_input_error("a pattern that matches a parameter (" + names + ")", "'" + patterns[i] + "'",
                        "see halfstep inspect --trainable");
}

// Running statistics of BatchNormalization, followed back through what exporters put in front of them.
std::vector<bool> statistics_of(const Graph& graph) {
  std::vector<bool> statistic(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    if (!node.is("BatchNormalization")) continue;
    for (std::size_t i : {3u, 4u})
      if (node.input(i) != kNoValue) statistic[static_cast<std::size_t>(node.input(i))] = true;
  }
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool passes_on = node->is("Expand") || node->is("CastLike") || node->is("Cast") || node->is("Identity");
    if (passes_on && statistic[static_cast<std::size_t>(node->outputs[0])])
      statistic[static_cast<std::size_t>(node->inputs[0])] = true;
  }
  return statistic;
}

}  // namespace

Pass select_parameters(ParameterSelection selection) {
  return {"select_parameters", [selection = std::move(selection)](Graph& graph) {
            const std::vector<bool> statistic = statistics_of(graph);
            const std::vector<std::int32_t> uses = graph.use_counts();
            std::vector<bool> froze(selection.freeze.size()), chose(selection.trainable.size());
            std::string names;
            std::size_t count = 0;
            for (std::size_t i = 0; i < statistic.size(); ++i) {
              Value& value = graph.values[i];
              if (!value.is_constant() || !value.is_initializer || !is_float(value.dtype) || uses[i] == 0) continue;
              if (statistic[i] || value.shape.rank() == 0) continue;
              names += (names.empty() ? "" : ", ") + value.name;
              const bool frozen = matches(selection.freeze, value.name, froze);
              const bool chosen = selection.trainable.empty() || matches(selection.trainable, value.name, chose);
              if (frozen || !chosen) continue;
              graph.states.push_back(
                  {.value = static_cast<ValueId>(i), .role = StateRole::parameter, .initial = value.constant});
              value.constant = Tensor();
              ++count;
            }
            require_used(selection.freeze, froze, names);
            require_used(selection.trainable, chose, names);
            if (count == 0)
              throw_input_error("a parameter to train: a float initializer of rank 1 or more",
                                names.empty() ? "none in the model" : "all of them frozen (" + names + ")",
                                "export the model with its weights as initializers, or freeze less");
          }};
}

}  // namespace halfstep
