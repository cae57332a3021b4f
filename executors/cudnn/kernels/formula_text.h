// The scalar formulas of elementwise operators, as CUDA C++ that device_text.h is the beginning of.
#pragma once

#include <string>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep::cudnn {

/// An expression of a node's operands.
struct Formula {
  std::string text;                ///< operand i is $i; empty where the operator has none for these types
  std::vector<std::size_t> reads;  ///< the operands that it names

  explicit operator bool() const { return !text.empty(); }
  /// With names in the places of operands: names[k] for operand reads[k].
  std::string with(const std::vector<std::string>& names) const;
};

/// Of a node that gives one result of one element for one element each of its operands. Operands come in the type that
/// their element type is computed in, and the result is rounded to the node's by whoever asks.
Formula formula_of(const Graph& graph, const Node& node);

}  // namespace halfstep::cudnn
