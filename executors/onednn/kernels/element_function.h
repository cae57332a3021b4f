// Which function computes a node of an elementwise operator, in floats and in other types.
#pragma once

#include <string_view>

#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/range_function.h"
#include "ops/elementwise/formula.h"
#include <halfstep/graph/graph.h>

namespace halfstep::onednn {

/// The formula of a node with its attributes and constant bounds, or why there is none to compute it by.
struct ElementFunction {
  const ops::FormulaDef* def = nullptr;
  simd::ElementwiseParams params = {};
  std::string_view refusal = {};

  /// Zeros of all operands give zeros: padding stays what it must be.
  bool keeps_zero() const;
};
ElementFunction element_function(const Graph& graph, const Node& node);

/// Formulas of one or two operands in integers and bool; nullptr where there is none for this type of the operands.
simd::PlainFn plain_function(ops::Formula formula, DType dtype);

/// What computes a range of elements of the node's result, whatever its operator; empty where nothing does.
simd::RangeFunction range_function(const Graph& graph, const Node& node);

}  // namespace halfstep::onednn
