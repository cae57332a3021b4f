#include "passes/parameter_choice.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include "graph/error.h"
#include "ops/infer.h"
#include "ops/op_def.h"
#include "ops/operand_name.h"

namespace halfstep {
namespace {

using Flags = std::vector<bool>;
bool get(const Flags& flags, ValueId id) { return id != kNoValue && flags[static_cast<std::size_t>(id)]; }

template <std::size_t N>
bool is_any(const Node& node, const std::array<std::string_view, N>& ops) {
  return node.domain.empty() && std::find(ops.begin(), ops.end(), node.op) != ops.end();
}

constexpr std::array<std::string_view, 11> kMovement{"Identity",  "Cast",      "CastLike", "Expand",
                                                     "Reshape",   "Unsqueeze", "Squeeze",  "Concat",
                                                     "Transpose", "Flatten",   "Tile"};
constexpr std::array<std::string_view, 5> kArithmetic{"Add", "Sub", "Mul", "Div", "MatMul"};
constexpr std::array<std::string_view, 9> kSpreading{"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Mod"};

// Float inputs that are settings of the operator: they shape its result, and no gradient flows to them.
struct Setting {
  std::string_view op;
  std::size_t first, last;  ///< inputs
};
constexpr std::array<Setting, 8> kSettings{{{"Resize", 1, 3},
                                            {"Upsample", 1, 1},
                                            {"Dropout", 1, 2},
                                            {"Clip", 1, 2},
                                            {"Pad", 1, 3},
                                            {"OneHot", 1, 2},
                                            {"Range", 0, 2},
                                            {"BatchNormalization", 3, 4}}};

bool is_setting(const Node& node, std::size_t input) {
  return node.domain.empty() && std::any_of(kSettings.begin(), kSettings.end(), [&](const Setting& s) {
           return s.op == node.op && s.first <= input && input <= s.last;
         });
}

bool all_equal(const Tensor& tensor) {
  const auto values = to_doubles(tensor);
  return std::all_of(values.begin(), values.end(), [&](double v) { return v == values[0]; });
}

// What the rules look at: a graph, who makes and reads its values, and where gradients flow.
class Model {
 public:
  explicit Model(const Graph& graph) : graph(graph), uses(uses_of(graph)), producers_(graph.producers()) {
    find_statistics();
    find_gradients();
  }

  const Graph& graph;
  const std::vector<std::vector<Use>> uses;

  const Node& node(const Use& use) const { return graph.nodes[use.node]; }
  const std::vector<Use>& uses_of_output(const Node& node) const {
    return uses[static_cast<std::size_t>(node.outputs[0])];
  }
  const Node* producer(ValueId id) const {
    const std::int32_t i = id == kNoValue ? -1 : producers_[static_cast<std::size_t>(id)];
    return i < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(i)];
  }
  bool is_statistic(ValueId id) const { return get(statistics_, id); }
  bool has_gradient(ValueId id) const { return get(gradients_, id); }

 private:
  // Running statistics of BatchNormalization, followed back through what exporters put in front of them.
  void find_statistics() {
    statistics_.assign(graph.values.size(), false);
    for (const Node& node : graph.nodes) {
      if (!node.is("BatchNormalization")) continue;
      for (std::size_t i : {3u, 4u})
        if (node.input(i) != kNoValue) statistics_[static_cast<std::size_t>(node.input(i))] = true;
    }
    for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
      const bool passes_on = node->is("Expand") || node->is("CastLike") || node->is("Cast") || node->is("Identity");
      if (passes_on && is_statistic(node->outputs[0])) statistics_[static_cast<std::size_t>(node->inputs[0])] = true;
    }
  }

  // Float values that float outputs of the model depend on through operands.
  void find_gradients() {
    gradients_.assign(graph.values.size(), false);
    for (ValueId id : graph.outputs) gradients_[static_cast<std::size_t>(id)] = is_float(graph[id].dtype);
    for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
      if (std::none_of(node->outputs.begin(), node->outputs.end(), [&](ValueId out) { return has_gradient(out); }))
        continue;
      for (std::size_t i = 0; i < node->inputs.size(); ++i) {
        const ValueId in = node->inputs[i];
        if (in != kNoValue && is_float(graph[in].dtype) && !is_setting(*node, i))
          gradients_[static_cast<std::size_t>(in)] = true;
      }
    }
  }

  Flags statistics_, gradients_;
  std::vector<std::int32_t> producers_;
};

std::string quoted(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

// Each rule says why a float constant is no parameter, or nothing.
using Rule = std::string (*)(const Model& model, ValueId id);

std::string is_running_statistic(const Model& model, ValueId id) {
  return model.is_statistic(id) ? "running statistic of BatchNormalization" : "";
}

std::string is_without_gradient(const Model& model, ValueId id) {
  if (model.has_gradient(id)) return {};
  const std::vector<Use>& uses = model.uses[static_cast<std::size_t>(id)];
  if (uses.empty()) return "an output of the model and nothing else";
  const Node& node = model.node(uses[0]);
  return fmt::format("no gradient flows to it: {} of {}", operand_name(node, uses[0].input), quoted(node));
}

// An extent that one element could belong to as the bias of its only feature: the last axis, or that of channels.
bool has_one_feature(const Shape& shape) {
  if (!shape.is_ranked() || shape.rank() < 2) return true;  // not known to have more
  return shape.dim(-1) == 1 || shape.dim(-1) == Shape::kUnknown || (shape.rank() > 2 && shape[1] == 1);
}

std::string is_scalar(const Model& model, ValueId id) {
  const Value& value = model.graph[id];
  if (value.shape.rank() == 0) return "scalar constant";
  if (value.constant.count() != 1) return {};
  for (const Use& use : model.uses[static_cast<std::size_t>(id)]) {
    const Node& node = model.node(use);
    if (!is_any(node, kSpreading)) return {};
    for (ValueId other : node.inputs)
      if (other != id && other != kNoValue && !model.graph[other].is_constant() &&
          has_one_feature(model.graph[other].shape))
        return {};
  }
  return "scalar constant";
}

// Whether nothing but elementwise operators reads it: a weight is multiplied as a matrix or convolved.
bool is_read_elementwise(const Model& model, ValueId id) {
  const std::vector<Use>& uses = model.uses[static_cast<std::size_t>(id)];
  return std::all_of(uses.begin(), uses.end(), [&](const Use& use) {
    const Node& node = model.node(use);
    return is_any(node, kSpreading) || is_any(node, kMovement);
  });
}

bool adds_to_scores(const Model& model, const Node& node) {
  if (!node.is("Add")) return false;
  const std::vector<Use>& readers = model.uses_of_output(node);
  return !readers.empty() &&
         std::all_of(readers.begin(), readers.end(), [&](const Use& use) { return model.node(use).is("Softmax"); });
}

std::string is_mask(const Model& model, ValueId id) {
  constexpr double kBarelyNegative = -100;  // Swin's masks; most models take -1e4 and below
  const Value& value = model.graph[id];
  if (value.shape.rank() < 2 || value.constant.count() < 2 || !is_read_elementwise(model, id)) return {};
  const std::vector<double> elements = to_doubles(value.constant);
  const auto all = [&](double a, auto other) {
    return std::all_of(elements.begin(), elements.end(), [&](double v) { return v == a || other(v); });
  };
  const bool is_uniform = all_equal(value.constant);
  const auto is_low = [&](double v) { return v <= kBarelyNegative; };
  if (all(0, is_low) && (!is_uniform || is_low(elements[0])))
    return fmt::format("mask: only 0 and {:g}", *std::min_element(elements.begin(), elements.end()));
  if (!is_uniform && all(0, [](double v) { return v == 1; })) return "mask: only 0 and 1";
  const std::vector<Use>& uses = model.uses[static_cast<std::size_t>(id)];
  if (is_uniform && !uses.empty() &&
      std::all_of(uses.begin(), uses.end(), [&](const Use& use) { return adds_to_scores(model, model.node(use)); }))
    return fmt::format("mask: everywhere {:g}, added to the scores of a Softmax by {}", elements[0],
                       quoted(model.node(uses[0])));
  return {};
}

std::string is_group_normalization_filler(const Model& model, ValueId id) {
  const Value& value = model.graph[id];
  if (!all_equal(value.constant) || value.constant.count() == 0) return {};
  const double element = to_doubles(value.constant)[0];
  for (const Use& use : model.uses[static_cast<std::size_t>(id)]) {
    const Node& node = model.node(use);
    const Node* before = node.is("InstanceNormalization") ? model.producer(node.inputs[0]) : nullptr;
    if (!before || !before->is("Reshape") || element != (use.input == 1 ? 1 : 0)) return {};
  }
  return "the ones or zeros by which the exporter writes GroupNormalization as InstanceNormalization";
}

// Whether all that is made of a value, by movement and products, are arguments of Sin and Cos.
bool makes_only_angles(const Model& model, ValueId id, int depth) {
  constexpr int kDeepest = 12;
  const std::vector<Use>& uses = model.uses[static_cast<std::size_t>(id)];
  return depth < kDeepest && !uses.empty() && std::all_of(uses.begin(), uses.end(), [&](const Use& use) {
           const Node& node = model.node(use);
           if (node.is("Sin") || node.is("Cos")) return true;
           return (is_any(node, kMovement) || is_any(node, kArithmetic)) &&
                  makes_only_angles(model, node.outputs[0], depth + 1);
         });
}

std::string is_frequency(const Model& model, ValueId id) {
  return makes_only_angles(model, id, 0) ? "frequencies of a position encoding: only angles are made of it" : "";
}

// These hold whatever the exporter says.
constexpr std::array<Rule, 2> kCertain{is_running_statistic, is_without_gradient};
constexpr std::array<Rule, 4> kLikely{is_scalar, is_mask, is_group_normalization_filler, is_frequency};

template <std::size_t N>
std::string first_reason(const std::array<Rule, N>& rules, const Model& model, ValueId id) {
  for (Rule rule : rules)
    if (std::string reason = rule(model, id); !reason.empty()) return reason;
  return {};
}

std::string why_no_parameter(const Model& model, ValueId id) {
  if (std::string reason = first_reason(kCertain, model, id); !reason.empty()) return reason;
  switch (model.graph[id].declared) {
    case Declared::parameter:
      return {};
    case Declared::buffer:
      return "a buffer, says the exporter";
    case Declared::nothing:
      break;
  }
  return first_reason(kLikely, model, id);
}

// Patterns, and which of them matched something.
class Patterns {
 public:
  explicit Patterns(const std::vector<std::string>& patterns) : patterns_(patterns), used_(patterns.size()) {}

  bool empty() const { return patterns_.empty(); }
  /// The first pattern that matches, or nullptr; all that match count as used.
  const std::string* match(const std::string& name) {
    return find([&](const std::string& pattern) { return fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
  }
  /// The same of patterns that are the name itself.
  bool name(const std::string& name) {
    return find([&](const std::string& pattern) { return pattern == name; }) != nullptr;
  }

  void require_used(const std::vector<std::string>& names) const {
    for (std::size_t i = 0; i < patterns_.size(); ++i)
      if (!used_[i])
        throw_input_error(fmt::format("a pattern that matches a parameter ({})", fmt::join(names, ", ")),
                          "'" + patterns_[i] + "'", "see halfstep inspect --trainable");
  }

 private:
  template <class Matches>
  const std::string* find(const Matches& matches) {
    const std::string* first = nullptr;
    for (std::size_t i = 0; i < patterns_.size(); ++i) {
      if (!matches(patterns_[i])) continue;
      used_[i] = true;
      if (!first) first = &patterns_[i];
    }
    return first;
  }

  const std::vector<std::string>& patterns_;
  std::vector<bool> used_;
};

// The graph with every type that can be told before shapes are bound.
Graph with_types(Graph graph) {
  infer_graph(graph);
  return graph;
}

}  // namespace

std::vector<std::vector<Use>> uses_of(const Graph& graph) {
  std::vector<std::vector<Use>> uses(graph.values.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (std::size_t i = 0; i < graph.nodes[n].inputs.size(); ++i)
      if (const ValueId in = graph.nodes[n].inputs[i]; in != kNoValue)
        uses[static_cast<std::size_t>(in)].push_back({n, i});
  return uses;
}

std::vector<ParameterChoice> choose_parameters(const Graph& graph, const ParameterSelection& selection) {
  const Graph typed = with_types(graph);
  const Model model(typed);
  const std::vector<std::int32_t> readers = typed.use_counts();
  Patterns freeze(selection.freeze), trainable(selection.trainable);
  std::vector<ParameterChoice> choices;
  std::vector<std::string> parameters;
  for (std::size_t i = 0; i < typed.values.size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    const Value& value = typed[id];
    if (!value.is_constant() || !is_float(value.dtype) || readers[i] == 0) continue;
    const bool named = trainable.name(value.name);
    if (!value.is_initializer && !named) continue;
    ParameterChoice choice{.value = id, .uses = model.uses[i]};
    choice.reason = why_no_parameter(model, id);
    choice.is_parameter = choice.reason.empty();
    if (choice.is_parameter) {
      parameters.push_back(value.name);
      choice.maybe_merged = choice.uses.size() > 1 && value.constant.count() > 0 && all_equal(value.constant);
      if (const std::string* pattern = freeze.match(value.name))
        choice.reason = fmt::format("frozen by '{}'", *pattern);
      else if (!trainable.empty() && !trainable.match(value.name))
        choice.reason = "not among those chosen to be trained";
    } else if (named) {
      choice.reason.clear();
    }
    choice.trained = choice.reason.empty();
    choices.push_back(std::move(choice));
  }
  freeze.require_used(parameters);
  trainable.require_used(parameters);
  return choices;
}

std::vector<std::string> choose_untied(const Graph& model, const std::vector<std::string>& patterns) {
  std::vector<std::string> globs = patterns;
  std::replace(globs.begin(), globs.end(), std::string("all"), std::string("*"));
  Patterns chosen(globs);
  std::vector<std::string> untied, candidates;
  const Graph graph = run_pipeline(model, {separate_merged_parameters()});
  for (const ParameterChoice& choice : choose_parameters(graph, {})) {
    const std::string& name = graph[choice.value].name;
    const ValueId source = model.find(name);
    if (choice.uses.size() < 2 || !model[source].is_initializer) continue;
    const bool is_statistic = std::any_of(choice.uses.begin(), choice.uses.end(), [&](const Use& use) {
      return graph.nodes[use.node].is("BatchNormalization") && use.input >= 3;
    });
    if (choice.maybe_merged) candidates.push_back(name);
    const bool matches = choice.maybe_merged ? chosen.match(name) != nullptr : chosen.name(name);
    if (is_statistic || matches) untied.push_back(name);
  }
  // "all" of none is none.
  if (!(candidates.empty() && patterns == std::vector<std::string>{"all"})) chosen.require_used(candidates);
  return untied;
}

std::vector<std::size_t> blocking_nodes(const Graph& graph) {
  Flags reached(graph.values.size(), false), wanted(graph.values.size(), false);
  for (const State& state : graph.states)
    if (state.role == StateRole::parameter) reached[static_cast<std::size_t>(state.value)] = true;
  for (const Node& node : graph.nodes) {
    if (std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId in) { return get(reached, in); })) continue;
    for (ValueId out : node.outputs)
      if (out != kNoValue && is_float(graph[out].dtype)) reached[static_cast<std::size_t>(out)] = true;
  }
  for (ValueId id : graph.outputs) wanted[static_cast<std::size_t>(id)] = true;
  std::vector<std::size_t> blocking;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    const auto is_live = [&](ValueId id) { return get(reached, id) && get(wanted, id); };
    if (std::none_of(node.outputs.begin(), node.outputs.end(), is_live)) continue;
    const OpDef* row = find_op(node.op, node.domain);
    if (row && row->gradient == no_gradient) continue;
    if (!row || !row->gradient) blocking.push_back(i);
    for (ValueId in : node.inputs)
      if (in != kNoValue) wanted[static_cast<std::size_t>(in)] = true;
  }
  std::reverse(blocking.begin(), blocking.end());
  return blocking;
}

}  // namespace halfstep
