// Passes of a few lines.
#include <map>
#include <sstream>
#include <utility>

#include "ops/fold.h"
#include "passes/matcher.h"
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// Two nodes with equal keys compute the same, unless they draw random numbers. Stateful updates are kept apart by what
// they read.
std::string key_of(const Node& node) {
  std::ostringstream key;
  key << node.domain << ':' << node.op << ':' << node.outputs.size();
  for (ValueId in : node.inputs) key << ',' << in.index();
  for (const auto& [name, value] : node.attributes) {
    key << '|' << name << '=' << value.index() << ':';
    if (auto* i = std::get_if<std::int64_t>(&value))
      key << *i;
    else if (auto* f = std::get_if<float>(&value))
      key << std::hexfloat << *f;
    else if (auto* s = std::get_if<std::string>(&value))
      key << *s;
    else if (auto* is = std::get_if<std::vector<std::int64_t>>(&value))
      for (auto v : *is) key << v << ' ';
    else if (auto* fs = std::get_if<std::vector<float>>(&value))
      for (auto v : *fs) key << std::hexfloat << v << ' ';
    else
      key << "unique" << node.id.index();
  }
  return key.str();
}

bool is_constant(const Graph& graph, ValueId id) { return graph[id].is_constant(); }

// What an exporter merged is a constant of its own again, which the node no longer gives.
bool separate(Graph& graph, const Match& found) {
  graph.edit(found.root())->outputs[0] = kNoValue;
  const Value& from = graph[found["from"]];
  Value& to = graph[found["to"]];
  to.constant = from.constant.clone();
  to.dtype = from.dtype;
  to.shape = from.shape;
  to.is_initializer = from.is_initializer;
  if (to.declared == Declared::nothing) to.declared = from.declared;
  return true;
}

// An output keeps its name.
bool pass_on(Graph& graph, const Match& found) {
  if (graph.is_output(found["to"])) return false;
  graph.replace_uses(found["to"], found["from"]);
  return true;
}

}  // namespace

Pass separate_merged_parameters() {
  const auto identity = [](Pattern of) {
    return Pattern{.name = "to", .ops = {"Identity"}, .operands = {std::move(of)}};
  };
  const std::vector<Rule> rules = {
      {identity({.name = "from", .value = is_constant}), separate},
      {identity(any("from")), pass_on},
  };
  return {"separate_merged_parameters", [rules](Graph& graph) { rewrite(graph, rules); }};
}

Pass remove_dead_nodes() {
  return {"remove_dead_nodes", [](Graph& graph) { graph.remove_dead(); }};
}

Pass eliminate_common_subexpressions() {
  return {"eliminate_common_subexpressions", [](Graph& graph) {
            std::map<std::string, std::size_t> seen;
            for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
              const Node& node = graph.nodes[i];
              if (!is_deterministic(node)) continue;
              auto [it, is_new] = seen.try_emplace(key_of(node), i);
              if (is_new) continue;
              const Node& first = graph.nodes[it->second];
              bool same = true;  // an output of the second that the first lacks, or that has a name to keep
              for (std::size_t k = 0; k < node.outputs.size(); ++k)
                if (node.outputs[k] != kNoValue && (first.output(k) == kNoValue || graph.is_output(node.outputs[k])))
                  same = false;
              if (!same) continue;
              for (std::size_t k = 0; k < node.outputs.size(); ++k)
                if (node.outputs[k] != kNoValue) graph.replace_uses(node.outputs[k], first.outputs[k]);
            }
            graph.remove_dead();
          }};
}

}  // namespace halfstep
