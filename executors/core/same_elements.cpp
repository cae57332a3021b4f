#include "executors/core/same_elements.h"

#include <algorithm>
#include <set>
#include <type_traits>
#include <utility>
#include <variant>

#include <halfstep/ops/op_traits.h>

namespace halfstep::core {
namespace {

/// Tensors and bodies are equal where they are shared, as copies of a node share them.
bool equal(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&]<class T>(const T& value) {
        const T& other = std::get<T>(b);
        if constexpr (std::is_same_v<T, Tensor>)
          return value.raw() == other.raw();
        else
          return value == other;
      },
      a);
}

bool equal(const Attributes& a, const Attributes& b) {
  return std::ranges::equal(
      a, b, [](const auto& x, const auto& y) { return x.first == y.first && equal(x.second, y.second); });
}

/// Pairs of values that were found to be the same: residual networks lead to one by many ways.
using Known = std::set<std::pair<ValueId, ValueId>>;

bool same(const Graph& graph, ValueId a, ValueId b, Known& known) {
  if (a == b || known.contains({a, b})) return true;
  const Node *first = graph.producer(a), *second = graph.producer(b);
  if (!first || !second || !first->is(second->op, second->domain) || first->inputs.size() != second->inputs.size() ||
      !equal(first->attributes, second->attributes))
    return false;
  if (std::ranges::find(first->outputs, a) - first->outputs.begin() !=
      std::ranges::find(second->outputs, b) - second->outputs.begin())
    return false;
  const OperandRoles& roles = traits_of(*first).operands;
  const bool trains = first->attributes.get_int("training_mode", 0) != 0;
  for (std::size_t i = 0; i < first->inputs.size(); ++i)
    // In training a normalization takes its statistics from the batch.
    if (!(trains && is_statistic(roles[i])) && !same(graph, first->inputs[i], second->inputs[i], known)) return false;
  known.emplace(a, b);
  return true;
}

/// Of a gradient node: what the forward kernel left, if `fits(forward node)`.
template <class Fits>
const ForwardRecord* record_where(KernelContext& context, const Fits& fits) {
  const ForwardRecord* record = context.forward_record();
  if (!record) return nullptr;
  for (const Node& node : context.graph().nodes)
    if (node.id == context.node().forward) return fits(node) ? record : nullptr;
  return nullptr;
}

}  // namespace

bool same_elements(const Graph& graph, ValueId a, ValueId b) {
  Known known;
  return same(graph, a, b, known);
}

const ForwardRecord* record_of_same_x(KernelContext& context) {
  return record_where(context, [&](const Node& forward) {
    return same_elements(context.graph(), forward.inputs[0], context.node().inputs[1]);
  });
}

const ForwardRecord* record_of_same_inputs(KernelContext& context) {
  return record_where(context, [&](const Node& forward) {
    for (std::size_t i = 0; i < forward.inputs.size(); ++i)
      if (!same_elements(context.graph(), forward.inputs[i], context.node().input(i))) return false;
    return true;
  });
}

const ForwardRecord* forward_statistics(KernelContext& context) {
  const ForwardRecord* record = record_of_same_x(context);
  return record && record->mean ? record : nullptr;
}

}  // namespace halfstep::core
