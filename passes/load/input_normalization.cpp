#include "passes/load/input_normalization.h"

#include <algorithm>

#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

constexpr int kDeepest = 8;

bool is_arithmetic(const Node& node) { return traits_of(node).arithmetic != Arithmetic::none; }

bool shifts(const Node& node) { return traits_of(node).arithmetic == Arithmetic::sum; }

// The operand that is no constant, of an operator between a constant and something else.
ValueId other_operand(const ModelFacts& model, const Node& node) {
  if (!is_arithmetic(node) || node.inputs.size() != 2) return kNoValue;
  const bool first = model.graph[node.inputs[0]].is_constant(), second = model.graph[node.inputs[1]].is_constant();
  return first == second ? kNoValue : node.inputs[first ? 1 : 0];
}

bool is_scalar_arithmetic(const ModelFacts& model, const Node& node) {
  const ValueId other = other_operand(model, node);
  return other != kNoValue && model.graph[node.inputs[other == node.inputs[0] ? 1 : 0]].constant.count() == 1;
}

// Whether a constant is what is subtracted, or what is divided by.
bool subtracts_or_divides(const ModelFacts& model, const Node& node) {
  return (node.is("Sub") || node.is("Div")) && model.graph[node.inputs[1]].is_constant();
}

// Goes back past movement and scalar arithmetic: to the node that gives something else, or an input of the model.
struct Origin {
  const Node* node;
  ValueId value;
};
Origin origin(const ModelFacts& model, ValueId id) {
  const Node* node = model.producer(id);
  for (int i = 0; i < kDeepest && node; ++i) {
    const bool scalar = is_scalar_arithmetic(model, *node);
    if (!scalar && !is_movement(*node)) break;
    id = scalar ? other_operand(model, *node) : node->inputs[0];
    node = model.producer(id);
  }
  return {node, id};
}

bool is_raw(const ModelFacts& model, ValueId id) {
  const Origin from = origin(model, id);
  return !from.node && model.graph.is_input(from.value);
}

}  // namespace

bool is_input_normalization(const ModelFacts& model, ValueId id) {
  const std::span<const Use> uses = model.uses(id);
  return !uses.empty() && std::all_of(uses.begin(), uses.end(), [&](const Use& use) {
    const Node& node = model.node(use);
    const ValueId data = other_operand(model, node);
    if (data == kNoValue) return false;
    const bool here = subtracts_or_divides(model, node);
    if (is_raw(model, data)) {
      const Shape& shape = model.graph[data].shape;
      if (node.is("Sub") && here && shape.is_ranked() && shape.rank() > 3) return true;
      const std::span<const Use> next = model.uses_of_output(node);
      return !next.empty() && std::all_of(next.begin(), next.end(), [&](const Use& reader) {
        const Node& after = model.node(reader);
        return other_operand(model, after) != kNoValue && shifts(node) != shifts(after) &&
               (here || subtracts_or_divides(model, after));
      });
    }
    const Node* before = origin(model, data).node;
    if (!before) return false;
    const ValueId raw = other_operand(model, *before);
    return raw != kNoValue && is_raw(model, raw) && shifts(node) != shifts(*before) &&
           (here || subtracts_or_divides(model, *before));
  });
}

}  // namespace halfstep
