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

std::vector<std::vector<Use>> uses_of(const Graph& graph) {
  std::vector<std::vector<Use>> uses(graph.values.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (std::size_t i = 0; i < graph.nodes[n].inputs.size(); ++i)
      if (const ValueId in = graph.nodes[n].inputs[i]; in != kNoValue)
        uses[static_cast<std::size_t>(in)].push_back({n, i});
  return uses;
}

bool is_movement(const Node& node) { return traits_of(node).movement != Movement::none; }

bool is_spreading(const Node& node) {
  const OpDef* row = find_op(node.op, node.domain);
  return row && row->traits.elementwise == Elementwise::broadcast && !row->has_zero_gradient();
}

bool is_setting(const Node& node, std::size_t input) { return is_setting(traits_of(node).operands[input]); }

ModelFacts::ModelFacts(const Graph& typed, Exporter by)
    : graph(typed), exporter(by), uses_(uses_of(typed)), producers_(typed.producers()) {
  find_statistics();
  find_gradients();
  find_roles();
  find_habits();
}

const Node* ModelFacts::producer(ValueId id) const {
  const std::int32_t i = id == kNoValue ? -1 : producers_[index(id)];
  return i < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(i)];
}

void ModelFacts::find_statistics() {
  statistics_.assign(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    const OperandRoles& roles = traits_of(node).operands;
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNoValue && halfstep::is_statistic(roles[i])) statistics_[index(node.inputs[i])] = true;
  }
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node)
    if (keeps_elements(traits_of(*node).movement) && is_statistic(node->outputs[0]))
      statistics_[index(node->inputs[0])] = true;
}

void ModelFacts::find_gradients() {
  gradients_.assign(graph.values.size(), false);
  for (ValueId id : graph.outputs) gradients_[index(id)] = is_float(graph[id].dtype);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (std::none_of(node->outputs.begin(), node->outputs.end(),
                     [&](ValueId out) { return out != kNoValue && has_gradient(out); }))
      continue;
    for (std::size_t i = 0; i < node->inputs.size(); ++i) {
      const ValueId in = node->inputs[i];
      if (in != kNoValue && is_float(graph[in].dtype) && !is_setting(*node, i)) gradients_[index(in)] = true;
    }
  }
}

void ModelFacts::find_roles() {
  // Values that are made of constants by movement alone.
  std::vector<bool> moved(graph.values.size(), false);
  for (std::size_t i = 0; i < moved.size(); ++i) moved[i] = graph.values[i].is_constant();
  const auto data_inputs = [](const Node& node) {
    return traits_of(node).movement == Movement::join ? node.inputs.size() : std::size_t{1};
  };
  const auto is_moved = [&](const Node& node) {
    if (!is_movement(node)) return false;
    for (std::size_t i = 0; i < data_inputs(node); ++i)
      if (node.input(i) == kNoValue || !moved[index(node.input(i))]) return false;
    return true;
  };
  for (const Node& node : graph.nodes)
    if (is_moved(node))
      for (ValueId out : node.outputs)
        if (out != kNoValue) moved[index(out)] = true;

  roles_.assign(graph.values.size(), WeightRole::none);
  const auto raise = [&](ValueId id, WeightRole role) {
    if (id != kNoValue && moved[index(id)]) roles_[index(id)] = std::max(roles_[index(id)], role);
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
        for (std::size_t i = 0; i < data_inputs(*node); ++i) raise(node->inputs[i], roles_[index(out)]);
  }
}

void ModelFacts::find_habits() {
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const Value& value = graph.values[i];
    has_declarations_ = has_declarations_ || value.declared != Declared::nothing;
    if (!value.is_constant() || !is_float(value.dtype) || roles_[i] != WeightRole::matrix) continue;
    const bool is_path = kind_of_name(value.name) == NameKind::path;
    names_modules_ = names_modules_ || is_path;
    if (value.is_initializer) initializers_hold_weights_ = true;
    if (!value.is_initializer && (exporter != Exporter::pytorch || is_path)) constants_hold_weights_ = true;
  }
}

}  // namespace halfstep
