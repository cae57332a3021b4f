// Which function computes a node of an elementwise operator, in f32 and in other types.
#pragma once

#include <string_view>

#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/range_function.h"
#include <halfstep/graph/graph.h>

namespace halfstep::onednn {

/// The SIMD function of an operator with the node's attributes and constant bounds, or why there is none.
template <class Op>
struct ElementFunction {
  Op op{};
  simd::ElementwiseParams params = {};
  bool keeps_zero = false;         ///< zeros of all operands give zeros: padding stays what it must be
  bool keeps_zero_scalar = false;  ///< of a binary one: f(0, s) = 0 for every finite s but 0
  std::string_view refusal = {};
};
ElementFunction<simd::UnaryOp> unary_function(const Graph& graph, const Node& node);
ElementFunction<simd::BinaryOp> binary_function(const Graph& graph, const Node& node);

/// Comparisons, logic, and arithmetic on integers; nullptr where there is none for this type of the operands.
simd::PlainFn plain_function(std::string_view op, DType dtype);

/// What computes a range of elements of the node's result, whatever its operator; empty where nothing does.
simd::RangeFunction range_function(const Graph& graph, const Node& node);

}  // namespace halfstep::onednn
