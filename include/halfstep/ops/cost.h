// Cost of a node, computed from types and shapes: arithmetic operations and memory traffic.
#pragma once

#include <cstddef>
#include <span>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

struct Cost {
  /// Arithmetic operations; a function of an element (exp, tanh) counts as one, a fused multiply-add as two.
  double flops = 0;
  double bytes = 0;  ///< operands and results, each read or written once

  Cost& operator+=(const Cost& more) {
    flops += more.flops;
    bytes += more.bytes;
    return *this;
  }
};

/// A node with the shapes of its operands and results, for the rule of its operator (ops/cost_rules.h).
class CostCall {
 public:
  CostCall(const Graph& graph, const Node& node) : graph_(graph), node_(node) {}

  const Graph& graph() const { return graph_; }
  const Node& node() const { return node_; }
  bool has_in(std::size_t i) const { return node_.input(i) != kNoValue; }

  /// Number of elements of operand i or result i; 0 if it is absent or the number is unknown.
  double in(std::size_t i) const { return elements(node_.input(i)); }
  double out(std::size_t i = 0) const { return elements(node_.output(i)); }
  /// The extent along an axis; negative axes count from the back. 0 if it is unknown.
  double in_extent(std::size_t i, std::ptrdiff_t axis) const { return extent(node_.input(i), axis); }
  double out_extent(std::size_t i, std::ptrdiff_t axis) const { return extent(node_.output(i), axis); }

 private:
  double elements(ValueId id) const;
  double extent(ValueId id, std::ptrdiff_t axis) const;

  const Graph& graph_;
  const Node& node_;
};

/// FLOPs by the operator's rule. Without a rule: one per element of the largest operand or result, and none if the
/// operator only moves elements. Nodes in bodies of control flow are not counted. Data-dependent shapes count as
/// empty.
Cost cost_of(const Graph& graph, const Node& node);
/// Cost of nodes computed together: intermediate results that only these nodes read are not written to memory.
Cost cost_of(const Graph& graph, std::span<const std::size_t> nodes);

/// The type that a node computes in, from its operands and results; undefined if none of them is a float.
DType computed_type(const Graph& graph, const Node& node);

}  // namespace halfstep
