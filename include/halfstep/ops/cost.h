// What a node costs, from types and shapes alone: arithmetic, and memory that is read and written.
#pragma once

#include <cstddef>
#include <span>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

struct Cost {
  /// Additions, multiplications and the like; a function of an element (exp, tanh) is one, a fused multiply-add two.
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

  /// Elements of operand i or result i; 0 where there is none, or it is not known how many.
  double in(std::size_t i) const { return elements(node_.input(i)); }
  double out(std::size_t i = 0) const { return elements(node_.output(i)); }
  /// The extent along an axis, which counts from the back when negative; 0 where that is not known.
  double in_extent(std::size_t i, std::ptrdiff_t axis) const { return extent(node_.input(i), axis); }
  double out_extent(std::size_t i, std::ptrdiff_t axis) const { return extent(node_.output(i), axis); }

 private:
  double elements(ValueId id) const;
  double extent(ValueId id, std::ptrdiff_t axis) const;

  const Graph& graph_;
  const Node& node_;
};

/// FLOPs as the operator's rule says; without one of its own one for each element of the largest operand or result, and
/// none where it only moves elements. Of control flow what stands in bodies is not counted. Shapes that depend on data
/// count as empty.
Cost cost_of(const Graph& graph, const Node& node);
/// Of nodes that are computed together: what one of them makes and only others of them read is not written.
Cost cost_of(const Graph& graph, std::span<const std::size_t> nodes);

/// The type a node computes in, as its operands and results have it; undefined where none is a float.
DType computed_type(const Graph& graph, const Node& node);

}  // namespace halfstep
