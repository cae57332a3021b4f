#include "passes/load/model_facts.h"

#include <algorithm>

#include "passes/load/constant_names.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

WeightRole role_of(OperandRole role) {
  using enum OperandRole;
  if (role == weight || role == table) return WeightRole::matrix;
  return role == bias || role == scale || role == slope ? WeightRole::vector : WeightRole::none;
}

}  // namespace

bool is_movement(const Node& node) { return traits_of(node).movement != Movement::none; }

bool is_spreading(const Node& node) {
  const OpDef* row = find_op(node.op, node.domain);
  return row && row->traits.elementwise == Elementwise::broadcast && !row->has_zero_gradient();
}

bool is_setting(const Node& node, std::size_t input) { return is_setting(traits_of(node).operands[input]); }

ModelFacts::ModelFacts(const Graph& typed, Exporter by)
    : graph(typed),
      exporter(by),
      statistics_(typed.values.size()),
      gradients_(typed.values.size()),
      roles_(typed.values.size()) {
  find_statistics();
  find_gradients();
  find_roles();
  find_habits();
}

void ModelFacts::find_statistics() {
  for (const Node& node : graph.nodes) {
    const OperandRoles& roles = traits_of(node).operands;
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNoValue && halfstep::is_statistic(roles[i])) statistics_[node.inputs[i]] = true;
  }
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node)
    if (keeps_elements(traits_of(*node).movement) && is_statistic(node->outputs[0]))
      statistics_[node->inputs[0]] = true;
}

void ModelFacts::find_gradients() {
  for (ValueId id : graph.outputs) gradients_[id] = is_float(graph[id].dtype);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (std::none_of(node->outputs.begin(), node->outputs.end(),
                     [&](ValueId out) { return out != kNoValue && has_gradient(out); }))
      continue;
    for (std::size_t i = 0; i < node->inputs.size(); ++i) {
      const ValueId in = node->inputs[i];
      if (in != kNoValue && is_float(graph[in].dtype) && !is_setting(*node, i)) gradients_[in] = true;
    }
  }
}

void ModelFacts::find_roles() {
  // Values that are made of constants by movement alone.
  ValueMap<bool> moved(graph.values.size());
  for (const ValueId id : graph.values.ids()) moved[id] = graph[id].is_constant();
  const auto data_inputs = [](const Node& node) {
    return traits_of(node).movement == Movement::join ? node.inputs.size() : std::size_t{1};
  };
  const auto is_moved = [&](const Node& node) {
    if (!is_movement(node)) return false;
    for (std::size_t i = 0; i < data_inputs(node); ++i)
      if (node.input(i) == kNoValue || !moved[node.input(i)]) return false;
    return true;
  };
  for (const Node& node : graph.nodes)
    if (is_moved(node))
      for (ValueId out : node.outputs)
        if (out != kNoValue) moved[out] = true;

  const auto raise = [&](ValueId id, WeightRole role) {
    if (id != kNoValue && moved[id]) roles_[id] = std::max(roles_[id], role);
  };
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const OpTraits& traits = traits_of(*node);
    for (std::size_t i = 0; i < node->operands().size(); ++i) {
      const ValueId in = node->inputs[i];
      WeightRole role = role_of(traits.operands[i]);
      const bool is_flat = in != kNoValue && graph[in].shape.is_ranked() && graph[in].shape.rank() < 2;
      // The rows of a vector are single numbers: extents, settings.
      if (role == WeightRole::matrix && is_flat)
        role = traits.operands[i] == OperandRole::table || graph[in].shape.rank() == 0 ? WeightRole::none
                                                                                       : WeightRole::vector;
      raise(in, role);
    }
    if (!is_moved(*node)) continue;
    // One element that fills a tensor is a number: the zero of an initial state.
    if (traits.movement == Movement::repeat && graph[node->inputs[0]].shape.is_static() &&
        graph[node->inputs[0]].shape.count() == 1)
      continue;
    for (ValueId out : node->outputs)
      if (out != kNoValue)
        for (std::size_t i = 0; i < data_inputs(*node); ++i) raise(node->inputs[i], roles_[out]);
  }
}

void ModelFacts::find_habits() {
  for (const ValueId id : graph.values.ids()) {
    const Value& value = graph[id];
    has_declarations_ = has_declarations_ || value.declared != Declared::nothing;
    if (!value.is_constant() || !is_float(value.dtype) || roles_[id] != WeightRole::matrix) continue;
    const bool is_path = kind_of_name(value.name) == NameKind::path;
    names_modules_ = names_modules_ || is_path;
    if (value.is_initializer) initializers_hold_weights_ = true;
    if (!value.is_initializer && (exporter != Exporter::pytorch || is_path)) constants_hold_weights_ = true;
  }
}

}  // namespace halfstep
