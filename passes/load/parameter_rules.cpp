#include "passes/load/parameter_rules.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include <fmt/format.h>

#include "ops/operand_name.h"
#include "passes/load/constant_names.h"
#include "passes/load/input_normalization.h"
#include "passes/load/recurrent_bias.h"
#include "passes/simplify/constant_values.h"
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

std::string quoted(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }

template <class Predicate>
bool all_uses(const ModelFacts& model, ValueId id, const Predicate& holds) {
  const std::span<const Use> uses = model.uses(id);
  return !uses.empty() &&
         std::all_of(uses.begin(), uses.end(), [&](const Use& use) { return holds(model.node(use), use.input); });
}

// Whether nothing but elementwise operators reads it: a weight is multiplied as a matrix or convolved.
bool is_read_elementwise(const ModelFacts& model, ValueId id) {
  return all_uses(model, id, [](const Node& node, std::size_t) { return is_spreading(node) || is_movement(node); });
}

// Whether its name is that of an attribute of a module, or of a variable.
bool has_framework_name(const ModelFacts& model, const Value& value) {
  switch (kind_of_name(value.name)) {
    case NameKind::made_up:
      return false;
    case NameKind::variable:
      return true;
    case NameKind::path:
      return !model.has_declarations() && (value.is_initializer || model.names_modules());
    case NameKind::plain:
      return value.is_initializer && !model.has_declarations() &&
             (model.exporter == Exporter::pytorch || (model.exporter == Exporter::unknown && model.names_modules()));
  }
  return false;
}

// Each rule says why a float constant is no parameter, or nothing.

std::string is_running_statistic(const ModelFacts& model, ValueId id) {
  return model.is_statistic(id) ? "running statistic of BatchNormalization" : "";
}

std::string is_without_gradient(const ModelFacts& model, ValueId id) {
  const std::span<const Use> uses = model.uses(id);
  if (uses.empty()) return "an output of the model and nothing else";
  if (model.has_gradient(id)) return {};
  // A weight that gets none is a parameter all the same: what keeps it from one is reported.
  if (model.role(id) != WeightRole::none) return {};
  const Node& node = model.node(uses[0]);
  return fmt::format("no gradient flows to it: {} of {}", operand_name(node, uses[0].input), quoted(node));
}

// An extent that one element could belong to as the bias of its only feature: the last axis, or that of channels.
bool has_one_feature(const Shape& shape) {
  if (!shape.is_ranked() || shape.rank() < 2) return true;  // not known to have more
  return shape.dim(-1) == 1 || shape.dim(-1) == Shape::kUnknown || (shape.rank() > 2 && shape[1] == 1);
}

// One element that is no weight of its operator, and is spread over features where it has an axis.
bool is_single(const ModelFacts& model, ValueId id) {
  const Value& value = model.graph[id];
  if (value.constant.count() != 1 || model.role(id) != WeightRole::none) return false;
  return value.shape.rank() == 0 || all_uses(model, id, [&](const Node& node, std::size_t) {
           if (!is_spreading(node)) return false;
           return std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId other) {
             return other != id && other != kNoValue && !model.graph[other].is_constant() &&
                    has_one_feature(model.graph[other].shape);
           });
         });
}

std::string is_scalar(const ModelFacts& model, ValueId id) {
  return is_single(model, id) && !has_framework_name(model, model.graph[id]) ? "scalar constant" : "";
}

bool adds_to_scores(const ModelFacts& model, const Node& node) {
  if (!node.is("Add")) return false;
  const std::span<const Use> readers = model.uses_of_output(node);
  return !readers.empty() &&
         std::all_of(readers.begin(), readers.end(), [&](const Use& use) { return model.node(use).is("Softmax"); });
}

std::string is_mask(const ModelFacts& model, ValueId id) {
  constexpr double kBarelyNegative = -100;  // Swin's masks; most models take -1e4 and below
  const Value& value = model.graph[id];
  if (value.shape.rank() < 1 || value.constant.count() < 2 || !is_read_elementwise(model, id)) return {};
  const std::vector<double> elements = to_doubles(value.constant);
  const auto all = [&](double a, auto other) {
    return std::all_of(elements.begin(), elements.end(), [&](double v) { return v == a || other(v); });
  };
  const bool is_uniform = all_equal(value.constant);
  const auto is_low = [&](double v) { return v <= kBarelyNegative; };
  const bool is_vector = value.shape.rank() == 1;  // a bias may be uniform, and one of zeros and ones
  if (all(0, is_low) && (!is_uniform || (is_low(elements[0]) && !is_vector)))
    return fmt::format("mask: only 0 and {:g}", *std::min_element(elements.begin(), elements.end()));
  if (is_vector) return {};
  if (!is_uniform && all(0, [](double v) { return v == 1; })) return "mask: only 0 and 1";
  const std::span<const Use> uses = model.uses(id);
  if (is_uniform && !uses.empty() &&
      all_uses(model, id, [&](const Node& node, std::size_t) { return adds_to_scores(model, node); }))
    return fmt::format("mask: everywhere {:g}, added to the scores of a Softmax by {}", elements[0],
                       quoted(model.node(uses[0])));
  return {};
}

std::string is_group_normalization_filler(const ModelFacts& model, ValueId id) {
  const Value& value = model.graph[id];
  if (value.constant.count() == 0) return {};
  const bool is_filler = all_uses(model, id, [&](const Node& node, std::size_t input) {
    const Node* before = node.is("InstanceNormalization") ? model.producer(node.inputs[0]) : nullptr;
    return before && before->is("Reshape") && all_equal_to(value.constant, input == 1 ? 1 : 0);
  });
  return is_filler ? "the ones or zeros by which the exporter writes GroupNormalization as InstanceNormalization" : "";
}

std::string is_normalization_filler(const ModelFacts& model, ValueId id) {
  const Value& value = model.graph[id];
  if (value.is_initializer || model.constants_hold_weights()) return {};
  const bool is_filler = all_uses(model, id, [&](const Node& node, std::size_t input) {
    const OperandRoles& roles = traits_of(node).operands;
    return roles.has(OperandRole::scale) && all_equal_to(value.constant, roles[input] == OperandRole::scale ? 1 : 0);
  });
  return is_filler ? "the ones or zeros of a normalization without parameters" : "";
}

// Whether all that is made of a value, by movement and products, are arguments of Sin and Cos.
bool makes_only_angles(const ModelFacts& model, ValueId id, int depth) {
  constexpr int kDeepest = 12;
  return depth < kDeepest && all_uses(model, id, [&](const Node& node, std::size_t) {
           if (node.is("Sin") || node.is("Cos")) return true;
           const bool computes = traits_of(node).arithmetic != Arithmetic::none || node.is("MatMul");
           return (computes || is_movement(node)) && makes_only_angles(model, node.outputs[0], depth + 1);
         });
}

std::string is_frequency(const ModelFacts& model, ValueId id) {
  return makes_only_angles(model, id, 0) ? "frequencies of a position encoding: only angles are made of it" : "";
}

// The mean of a distribution over bins, as detectors of objects write it: a convolution with 0, 1, 2, ….
std::string is_enumeration(const ModelFacts& model, ValueId id) {
  const Shape& shape = model.graph[id].shape;
  const bool sums_channels = shape.rank() == 4 && shape[0] == 1 && shape[1] == shape.count() &&
                             all_uses(model, id, [](const Node& node, std::size_t) { return node.is("Conv"); });
  return sums_channels && counts_up(model.graph[id].constant) ? "the bins of a distribution: 0, 1, 2, …" : "";
}

bool feeds_initial_state(const ModelFacts& model, ValueId id, int depth) {
  constexpr int kDeepest = 8;
  return depth < kDeepest && all_uses(model, id, [&](const Node& node, std::size_t input) {
           if (traits_of(node).is_recurrent()) return traits_of(node).operands[input] == OperandRole::state;
           return is_movement(node) && feeds_initial_state(model, node.outputs[0], depth + 1);
         });
}

std::string is_zero_initial_state(const ModelFacts& model, ValueId id) {
  const Value& value = model.graph[id];
  if (has_framework_name(model, value) || !all_equal_to(value.constant, 0)) return {};
  return feeds_initial_state(model, id, 0) ? "the initial state of a recurrent layer, all zero" : "";
}

// PyTorch's exporters write what is written down in code as Constant nodes, and never a parameter.
std::string is_literal(const ModelFacts& model, ValueId id) {
  const Value& value = model.graph[id];
  if (value.is_initializer || (kind_of_name(value.name) == NameKind::path && model.names_modules())) return {};
  if (model.exporter == Exporter::pytorch) return "a Constant node: PyTorch writes parameters as initializers";
  const bool is_weight = model.role(id) != WeightRole::none;
  return is_weight || model.constants_hold_weights() ? ""
                                                     : "a Constant node in arithmetic, not in the role of a weight";
}

std::string has_buffer_name(const ModelFacts& model, ValueId id) {
  const std::string& name = model.graph[id].name;
  const NameKind kind = kind_of_name(name);
  if (kind != NameKind::path && kind != NameKind::plain) return {};
  return model.role(id) != WeightRole::matrix && is_buffer_name(name) ? "a buffer by its name" : "";
}

std::string normalizes_input(const ModelFacts& model, ValueId id) {
  return is_input_normalization(model, id) ? "normalizes the model's input" : "";
}

bool is_table(const ModelFacts& model, ValueId id) {
  return all_uses(model, id, [](const Node& node, std::size_t input) {
    return is_spreading(node) || is_movement(node) || traits_of(node).operands[input] == OperandRole::table;
  });
}

std::string is_sinusoid(const ModelFacts& model, ValueId id) {
  if (!is_table(model, id)) return {};
  const Tensor& table = model.graph[id].constant;
  const auto completes = [&](ValueId other) {
    return model.graph[other].is_constant() && is_float(model.graph[other].dtype) && is_table(model, other) &&
           are_sine_and_cosine(table, model.graph[other].constant);
  };
  const IdRange all = model.graph.values.ids();
  const bool found =
      is_sine_table(table) || (table.shape().rank() >= 2 && std::any_of(all.begin(), all.end(), completes));
  return found ? "a table of sines and cosines" : "";
}

struct Rule {
  std::string (*why_not)(const ModelFacts& model, ValueId id);
  enum Strength : std::uint8_t {
    certain,  ///< holds whatever the exporter declares
    likely,   ///< by its elements or what is made of it
    guess,    ///< by names and habits: said when a model is trained
  } strength;
};
// In this order: the first that says something decides.
constexpr std::array<Rule, 13> kRules{{{is_running_statistic, Rule::certain},
                                       {is_without_gradient, Rule::certain},
                                       {is_scalar, Rule::likely},
                                       {is_mask, Rule::likely},
                                       {is_group_normalization_filler, Rule::likely},
                                       {is_normalization_filler, Rule::likely},
                                       {is_frequency, Rule::likely},
                                       {is_zero_initial_state, Rule::likely},
                                       {is_literal, Rule::likely},
                                       {has_buffer_name, Rule::guess},
                                       {normalizes_input, Rule::guess},
                                       {is_enumeration, Rule::guess},
                                       {is_sinusoid, Rule::guess}}};

// What the last rules leave open: whether the user should know.
bool is_doubtful(const ModelFacts& model, ValueId id, bool is_parameter) {
  const Value& value = model.graph[id];
  if (is_parameter && value.is_initializer)
    return is_single(model, id) && kind_of_name(value.name) != NameKind::variable;
  // A Constant is told from numbers by its name, its operator or its neighbours.
  if (is_parameter)
    return kind_of_name(value.name) != NameKind::path &&
           (model.role(id) == WeightRole::none || model.initializers_hold_weights());
  const bool could_be_named = value.is_initializer && !model.has_declarations() &&
                              model.exporter == Exporter::unknown && kind_of_name(value.name) == NameKind::plain;
  const bool is_literal_weight = !value.is_initializer && model.role(id) == WeightRole::matrix;
  return (is_single(model, id) && could_be_named) || is_literal_weight;
}

Verdict judge(const ModelFacts& model, ValueId id) {
  const Declared declared = model.graph[id].declared;
  for (const Rule& rule : kRules) {
    if (rule.strength != Rule::certain && declared == Declared::parameter) break;
    if (rule.strength != Rule::certain && declared == Declared::buffer)
      return {.is_parameter = false, .reason = "declared as a buffer by the exporter"};
    std::string reason = rule.why_not(model, id);
    if (reason.empty()) continue;
    const bool is_guess =
        rule.strength == Rule::guess || (rule.strength == Rule::likely && is_doubtful(model, id, false));
    return {.is_parameter = false, .reason = std::move(reason), .is_guess = is_guess};
  }
  if (declared == Declared::parameter) return {};
  const std::int64_t leading = single_bias_extent(model, id);
  const bool is_guess = leading > 0 ? model.exporter == Exporter::unknown : is_doubtful(model, id, true);
  return {.is_guess = is_guess, .leading = leading};
}

// PyTorch lists a module's own parameters before its own buffers, and its exporter keeps that order: what follows a
// buffer of the same module is one.
void follow_module_order(const ModelFacts& model, ValueMap<Verdict>& verdicts) {
  if (model.exporter != Exporter::pytorch || model.has_declarations()) return;
  std::unordered_set<std::string_view> with_buffers;
  std::vector<ValueId> following;
  for (const ValueId id : verdicts.ids()) {
    const Value& value = model.graph[id];
    if (!value.is_constant() || !value.is_initializer || !is_float(value.dtype) || model.uses(id).empty()) continue;
    const NameKind kind = kind_of_name(value.name);
    if (kind != NameKind::path && kind != NameKind::plain) continue;
    const std::string_view module = module_of(value.name);
    if (model.is_statistic(id) || (!verdicts[id].is_parameter && is_buffer_name(value.name))) {
      with_buffers.insert(module);
    } else if (verdicts[id].is_parameter && with_buffers.contains(module)) {
      if (model.role(id) != WeightRole::none) return;  // another tool has changed the order
      following.push_back(id);
    }
  }
  for (const ValueId id : following)
    verdicts[id] = {.is_parameter = false, .reason = "follows a buffer of its module in the file", .is_guess = true};
}

}  // namespace

ValueMap<Verdict> judge_constants(const ModelFacts& model) {
  ValueMap<Verdict> verdicts(model.graph.values.size());
  for (const ValueId id : verdicts.ids()) {
    const Value& value = model.graph[id];
    if (value.is_constant() && is_float(value.dtype) && model.graph.is_read(id)) verdicts[id] = judge(model, id);
  }
  follow_module_order(model, verdicts);
  return verdicts;
}

}  // namespace halfstep
