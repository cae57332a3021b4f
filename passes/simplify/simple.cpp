// Passes of a few lines.
#include <map>
#include <sstream>

#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// Two nodes with equal keys compute the same. Random draws and stateful updates are kept apart by what they read.
std::string key_of(const Node& node) {
  std::ostringstream key;
  key << node.domain << ':' << node.op << ':' << node.outputs.size();
  for (ValueId in : node.inputs) key << ',' << in;
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
      key << "unique" << node.id;
  }
  return key.str();
}

bool is_random(const Node& node) {
  return node.op == "Dropout" || node.op.starts_with("Random") || node.op == "Bernoulli" || node.op == "Multinomial";
}

}  // namespace

Pass separate_merged_parameters() {
  return {"separate_merged_parameters", [](Graph& graph) {
            std::vector<Node> kept;
            for (Node& node : graph.nodes) {
              if (!node.is("Identity")) {
                kept.push_back(std::move(node));
                continue;
              }
              Value& from = graph[node.inputs[0]];
              Value& to = graph[node.outputs[0]];
              if (from.is_constant()) {
                to.constant = from.constant.clone();
                to.dtype = from.dtype;
                to.shape = from.shape;
                to.is_initializer = from.is_initializer;
                if (to.declared == Declared::nothing) to.declared = from.declared;
              } else if (graph.is_output(node.outputs[0])) {
                kept.push_back(std::move(node));  // an output keeps its name
              } else {
                graph.replace_uses(node.outputs[0], node.inputs[0]);
                // Nodes already moved to `kept` are read before this one and cannot use its output.
              }
            }
            graph.nodes = std::move(kept);
            graph.remove_dead();
          }};
}

Pass remove_dead_nodes() {
  return {"remove_dead_nodes", [](Graph& graph) { graph.remove_dead(); }};
}

Pass eliminate_common_subexpressions() {
  return {"eliminate_common_subexpressions", [](Graph& graph) {
            std::map<std::string, std::size_t> seen;
            std::vector<std::pair<ValueId, ValueId>> replaced;
            std::vector<ValueId> now(graph.values.size());
            for (std::size_t i = 0; i < now.size(); ++i) now[i] = static_cast<ValueId>(i);
            for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
              Node& node = graph.nodes[i];
              for (ValueId& in : node.inputs)
                if (in != kNoValue) in = now[static_cast<std::size_t>(in)];
              if (is_random(node)) continue;
              auto [it, is_new] = seen.try_emplace(key_of(node), i);
              if (is_new) continue;
              const Node& first = graph.nodes[it->second];
              bool same = true;  // an output of the second that the first lacks, or that has a name to keep
              for (std::size_t k = 0; k < node.outputs.size(); ++k)
                if (node.outputs[k] != kNoValue && (first.output(k) == kNoValue || graph.is_output(node.outputs[k])))
                  same = false;
              if (!same) continue;
              for (std::size_t k = 0; k < node.outputs.size(); ++k)
                if (node.outputs[k] != kNoValue) now[static_cast<std::size_t>(node.outputs[k])] = first.outputs[k];
            }
            for (std::size_t i = 0; i < now.size(); ++i)
              if (now[i] != static_cast<ValueId>(i)) graph.replace_references(static_cast<ValueId>(i), now[i]);
            graph.remove_dead();
          }};
}

}  // namespace halfstep
