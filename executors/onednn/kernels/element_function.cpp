#include "executors/onednn/kernels/element_function.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "executors/onednn/simd/kernels.h"

namespace halfstep::onednn {
namespace {

using simd::BinaryOp;
using simd::ElementwiseParams;
using simd::UnaryOp;

struct UnaryRow {
  std::string_view op;
  UnaryOp unary;
  bool keeps_zero;            ///< f(0) = 0
  float alpha = 0, beta = 0;  ///< defaults of the attributes of these names
};
constexpr UnaryRow kUnary[] = {
    {"Relu", UnaryOp::relu, true},
    {"LeakyRelu", UnaryOp::leaky_relu, true, 0.01F},
    {"Elu", UnaryOp::elu, true, 1},
    {"Neg", UnaryOp::neg, true},
    {"Abs", UnaryOp::abs, true},
    {"Sign", UnaryOp::sign, true},
    {"Reciprocal", UnaryOp::reciprocal, false},
    {"Sqrt", UnaryOp::sqrt, true},
    {"Exp", UnaryOp::exp, false},
    {"Log", UnaryOp::log, false},
    {"Erf", UnaryOp::erf, true},
    {"Sigmoid", UnaryOp::sigmoid, false},
    {"HardSigmoid", UnaryOp::hard_sigmoid, false, 0.2F, 0.5F},
    {"Tanh", UnaryOp::tanh, true},
    {"Softplus", UnaryOp::softplus, false},
    {"HardSwish", UnaryOp::hard_swish, true},
    {"Swish", UnaryOp::silu, true},
    {"Gelu", UnaryOp::gelu, true},
    {"Clip", UnaryOp::clip, true},
};

struct BinaryRow {
  std::string_view op;
  BinaryOp binary;
  bool keeps_zero;         ///< f(0, 0) = 0
  bool keeps_zero_scalar;  ///< f(0, s) = 0 for every finite s but 0
};
constexpr BinaryRow kBinary[] = {
    {"Add", BinaryOp::add, true, false},
    {"Sub", BinaryOp::sub, true, false},
    {"Mul", BinaryOp::mul, true, true},
    {"Div", BinaryOp::div, false, true},
    {"Min", BinaryOp::min, true, false},
    {"Max", BinaryOp::max, true, false},
    {"Pow", BinaryOp::pow, false, false},
    {"ReluGrad", BinaryOp::relu_grad, true, true},
    {"ClipGrad", BinaryOp::clip_grad, true, true},
    {"GeluGrad", BinaryOp::gelu_grad, true, true},
};

template <class Row, std::size_t n>
const Row* find_row(const Row (&rows)[n], const Node& node) {
  if (!node.domain.empty() && node.domain != kOwnDomain) return nullptr;
  const Row* found = std::find_if(rows, rows + n, [&](const Row& row) { return row.op == node.op; });
  return found == rows + n ? nullptr : found;
}

bool is_tanh_gelu(const Node& node) { return node.attributes.get_string("approximate", "none") == "tanh"; }

/// Clip's bounds from inputs `first` and `first + 1`, when they are constants.
template <class Op>
void set_bounds(ElementFunction<Op>& function, const Graph& graph, const Node& node, std::size_t first) {
  function.params = {-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()};
  for (const std::size_t i : {first, first + 1}) {
    if (node.input(i) == kNoValue) continue;
    const Tensor& bound = graph[node.inputs[i]].constant;
    if (!bound.is_defined() || bound.count() != 1)
      function.refusal = "bounds that are computed";
    else
      (i == first ? function.params.alpha : function.params.beta) = static_cast<float>(to_doubles(bound)[0]);
  }
}

}  // namespace

ElementFunction<UnaryOp> unary_function(const Graph& graph, const Node& node) {
  const UnaryRow* row = find_row(kUnary, node);
  if (!row) return {.refusal = "no SIMD function"};
  ElementFunction<UnaryOp> function{.op = row->unary, .keeps_zero = row->keeps_zero};
  function.params.alpha = node.attributes.get_float("alpha", row->alpha);
  function.params.beta = node.attributes.get_float("beta", row->beta);
  if (row->unary == UnaryOp::silu && node.attributes.get_float("alpha", 1) != 1)
    function.refusal = "Swish with another alpha than 1";
  if (row->unary == UnaryOp::gelu && is_tanh_gelu(node)) function.op = UnaryOp::gelu_tanh;
  if (row->unary == UnaryOp::clip) {
    set_bounds(function, graph, node, 1);
    function.keeps_zero = function.params.alpha <= 0 && function.params.beta >= 0;
  }
  return function;
}

ElementFunction<BinaryOp> binary_function(const Graph& graph, const Node& node) {
  const BinaryRow* row = find_row(kBinary, node);
  if (!row) return {.refusal = "no SIMD function"};
  ElementFunction<BinaryOp> function{
      .op = row->binary, .keeps_zero = row->keeps_zero, .keeps_zero_scalar = row->keeps_zero_scalar};
  if (row->binary == BinaryOp::clip_grad)
    set_bounds(function, graph, node, 2);
  else if (node.inputs.size() != 2)
    function.refusal = "other than two operands";
  if (row->binary == BinaryOp::gelu_grad && is_tanh_gelu(node)) function.op = BinaryOp::gelu_tanh_grad;
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
  if (const auto unary = unary_function(graph, node); unary.refusal.empty() && operand == result) {
    function.unary = simd::find_unary_range(unary.op, result);
    function.params = unary.params;
    if (function.unary) function.operands = 1;
  }
  if (const auto binary = binary_function(graph, node);
      binary.refusal.empty() && operand == result && has_type(1, result)) {
    function.binary = simd::find_binary_rows(binary.op, result);
    function.params = binary.params;
    if (function.binary.array_array) function.operands = 2;
  }
  if (function || !node.domain.empty() || node.inputs.size() > 2) return function;
  if (node.inputs.size() == 2 && !has_type(1, operand)) return {};
  function = {.plain = plain_function(node.op, operand)};
  if (function.plain) function.operands = static_cast<int>(node.inputs.size());
  return function;
}

}  // namespace halfstep::onednn
