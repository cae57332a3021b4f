#include <algorithm>
#include <set>

#include "ops/cost_rules.h"
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/cost.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

double count(const Graph& graph, ValueId id) {
  if (id == kNoValue || !graph[id].shape.is_static()) return 0;
  return static_cast<double>(graph[id].shape.count());
}

double bytes(const Graph& graph, ValueId id) {
  if (id == kNoValue || !graph[id].shape.is_static() || graph[id].dtype == DType::string) return 0;
  return static_cast<double>(bytes_of(graph[id].dtype, graph[id].shape));
}

double flops_of(const Graph& graph, const Node& node) {
  const OpTraits& traits = traits_of(node);
  const CostCall call(graph, node);
  if (const ops::CostRule rule = ops::cost_rule(node)) return rule(call);
  const OpDef* row = find_op(node.op, node.domain);
  const bool moves = traits.movement != Movement::none || (row && row->precision == PrecisionClass::neutral);
  return moves ? 0 : ops::largest(call);
}

/// The bytes read of an operand: for a table only the selected rows.
double bytes_read(const Graph& graph, const Node& node, const OpTraits& traits, std::size_t operand) {
  const OperandRole role = traits.operands[operand];
  if (role == OperandRole::shape_only) return 0;
  const double all = bytes(graph, node.inputs[operand]);
  if (role != OperandRole::table && role != OperandRole::source && traits.movement != Movement::part) return all;
  double taken = 0;
  for (const ValueId out : node.outputs) taken += bytes(graph, out);
  return std::min(all, taken);
}

}  // namespace

double CostCall::elements(ValueId id) const { return count(graph_, id); }

double CostCall::extent(ValueId id, std::ptrdiff_t axis) const {
  if (id == kNoValue || !graph_[id].shape.is_static()) return 0;
  const auto rank = static_cast<std::ptrdiff_t>(graph_[id].shape.rank());
  return axis >= rank || axis < -rank ? 0 : static_cast<double>(graph_[id].shape.dim(axis));
}

Cost cost_of(const Graph& graph, const Node& node) {
  const auto index = static_cast<std::size_t>(&node - &graph.nodes.front());
  return cost_of(graph, std::span(&index, 1));
}

Cost cost_of(const Graph& graph, std::span<const std::size_t> nodes) {
  const auto is_inside = [&](std::size_t node) { return std::ranges::find(nodes, node) != nodes.end(); };
  Cost cost;
  std::set<ValueId> met;
  for (const std::size_t n : nodes) {
    const Node& node = graph.nodes[n];
    const OpTraits& traits = traits_of(node);
    if (is_view(traits.movement)) continue;
    cost.flops += flops_of(graph, node);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId in = node.inputs[i];
      const bool made_here = graph.producer(in) && is_inside(static_cast<std::size_t>(graph.producer_index(in)));
      if (in != kNoValue && !made_here && met.insert(in).second) cost.bytes += bytes_read(graph, node, traits, i);
    }
    for (const ValueId out : node.outputs) {
      if (out == kNoValue || !graph.is_read(out)) continue;
      const Use* user = graph.sole_user(out);
      if (!user || !is_inside(user->node)) cost.bytes += bytes(graph, out);
    }
  }
  return cost;
}

DType computed_type(const Graph& graph, const Node& node) {
  for (const auto* list : {&node.inputs, &node.outputs})
    for (const ValueId id : *list)
      if (id != kNoValue && is_float(graph[id].dtype)) return graph[id].dtype;
  return DType::undefined;
}

}  // namespace halfstep
