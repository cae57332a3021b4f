#include "passes/matcher.h"

#include <algorithm>

namespace halfstep {

ValueId Match::operator[](std::string_view name) const {
  const auto found =
      std::find_if(values_.begin(), values_.end(), [&](const auto& entry) { return entry.first == name; });
  return found == values_.end() ? kNoValue : found->second;
}

// Notes what it finds on the way, calls what is left to do for each way, and takes its notes back where that says no.
class Matcher {
 public:
  using Rest = std::function<bool()>;

  Matcher(const Graph& graph, Match& found) : graph_(graph), found_(found) {}

  bool value(const Pattern& pattern, ValueId id, const Rest& rest) {
    if (id == kNoValue || (pattern.once && !graph_.sole_user(id)) || (pattern.value && !pattern.value(graph_, id)))
      return false;
    const std::size_t noted = found_.values_.size();
    if (note(pattern.name, id) && (pattern.ops.empty() ? rest() : node(pattern, id, rest))) return true;
    found_.values_.resize(noted);
    return false;
  }

 private:
  bool note(std::string_view name, ValueId id) {
    if (name.empty()) return true;
    if (const ValueId known = found_[name]; known != kNoValue) return known == id;
    found_.values_.emplace_back(name, id);
    return true;
  }

  bool node(const Pattern& pattern, ValueId id, const Rest& rest) {
    const Node* node = graph_.producer(id);
    if (!node || node->outputs[0] != id || !is_one_of(*node, pattern.ops)) return false;
    if (pattern.node && !pattern.node(graph_, *node)) return false;
    std::vector<ValueId> inputs = node->inputs;
    inputs.resize(std::max(inputs.size(), pattern.operands.size()), kNoValue);
    if (operands(pattern, inputs, 0, rest)) return true;
    if (!pattern.commutes || pattern.operands.size() != 2) return false;
    std::swap(inputs[0], inputs[1]);
    return operands(pattern, inputs, 0, rest);
  }

  // From operand i on.
  bool operands(const Pattern& pattern, const std::vector<ValueId>& inputs, std::size_t i, const Rest& rest) {
    if (i == pattern.operands.size()) return rest();
    return value(pattern.operands[i], inputs[i], [&] { return operands(pattern, inputs, i + 1, rest); });
  }

  static bool is_one_of(const Node& node, const std::vector<std::string>& ops) {
    const std::string name = node.domain.empty() ? node.op : node.domain + "." + node.op;
    return std::find(ops.begin(), ops.end(), name) != ops.end();
  }

  const Graph& graph_;
  Match& found_;
};

bool match(const Graph& graph, const Pattern& pattern, std::size_t node,
           const std::function<bool(const Match&)>& accept) {
  Match found(node);
  const std::vector<ValueId>& outputs = graph.nodes[node].outputs;
  return !outputs.empty() && Matcher(graph, found).value(pattern, outputs[0], [&] { return accept(found); });
}

void rewrite(Graph& graph, const std::vector<Rule>& rules) {
  const std::size_t count = graph.nodes.size();
  for (std::size_t n = 0; n < count; ++n)
    for (const Rule& rule : rules)
      if (match(graph, rule.before, n, [&](const Match& found) { return rule.apply(graph, found); })) break;
  graph.remove_dead();
}

Pattern any(std::string_view name) { return {.name = name}; }

}  // namespace halfstep
