#include "executors/onednn/kernels/element_function.h"

#include <algorithm>
#include <array>

#include "executors/onednn/simd/kernels.h"

namespace halfstep::onednn {
bool ElementFunction::keeps_zero() const {
  if (!def->on_floats) return false;
  std::array<double, 4> arguments{};
  arguments[def->operands] = params.alpha;
  arguments[def->operands + 1] = params.beta;
  return def->on_floats(arguments.data()) == 0;
}

ElementFunction element_function(const Graph& graph, const Node& node) {
  ElementFunction function{.def = ops::find_formula(node)};
  if (!function.def) return {.refusal = "an operator without a formula"};
  std::size_t operands = node.inputs.size();
  for (std::size_t p = 0; p < function.def->parameters; ++p) {
    const ops::FormulaParameter& parameter = function.def->row.parameters[p];
    float& value = p == 0 ? function.params.alpha : function.params.beta;
    value = ops::parameter(*function.def, p, node.attributes);
    if (parameter.operand < 0) continue;
    const auto i = static_cast<std::size_t>(parameter.operand);
    operands = std::min(operands, function.def->operands);
    if (node.input(i) == kNoValue) continue;
    const Tensor& bound = graph[node.inputs[i]].constant;
    if (bound.is_defined() && bound.count() == 1)
      value = static_cast<float>(to_doubles(bound)[0]);
    else
      function.refusal = "bounds that are computed";
  }
  if (operands != function.def->operands) function.refusal = "another number of operands";
  return function;
}

simd::RangeFunction range_function(const Graph& graph, const Node& node) {
  if (node.output(0) == kNoValue || node.input(0) == kNoValue) return {};
  const DType result = graph[node.outputs[0]].dtype;
  const auto has_type = [&](std::size_t i, DType dtype) {
    return node.input(i) != kNoValue && graph[node.inputs[i]].dtype == dtype;
  };
  const DType operand = graph[node.inputs[0]].dtype;
  simd::RangeFunction function;
  if (node.is("Where")) {
    const std::size_t bits = bits_of(result);
    if (bits >= 8 && bits <= 64) function.select = simd::find_select(bits / 8);
    if (function.select && has_type(1, result) && has_type(2, result)) function.operands = 3;
    return function;
  }
  if (node.is("Cast")) {
    if (node.attributes.get_int("to", 0) == static_cast<std::int64_t>(result) && operand != result)
      function.unary = simd::find_cast_range(operand, result);
    if (function.unary) function.operands = 1;
    return function;
  }
  const ElementFunction element = element_function(graph, node);
  if (!element.refusal.empty() || result != (element.def->gives_truth ? DType::boolean : operand)) return {};
  const std::size_t operands = element.def->operands;
  if (operands == 2 && !has_type(1, operand)) return {};
  function.params = element.params;
  function.unary = simd::find_unary_range(element.def->formula, operand);
  function.binary = simd::find_binary_rows(element.def->formula, operand);
  function.plain = plain_function(element.def->formula, operand);
  if (function.unary || function.binary.array_array || function.plain) function.operands = static_cast<int>(operands);
  return function;
}

}  // namespace halfstep::onednn
