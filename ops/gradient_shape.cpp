#include "ops/gradient_shape.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "graph/may_be_equal.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>

namespace halfstep::ops {
namespace {

constexpr int kFromAttribute = -1;  // the shape is the attribute input_shape

struct Forward {
  std::string_view gradient;         // of ai.halfstep
  std::string_view op;               // of ai.onnx: gives results of the forward operator's shapes
  std::vector<int> operands;         // for each of its operands, which one of the gradient operator's that is
  std::vector<std::size_t> results;  // for each of its results, which operand is the gradient with respect to it
};

const std::vector<Forward>& forward_operators() {
  static const std::vector<Forward> rows = {
      {"MaxPoolGrad", "MaxPool", {1}, {0}},
      {"AveragePoolGrad", "AveragePool", {kFromAttribute}, {0}},
      {"GatherGrad", "Gather", {kFromAttribute, 1}, {0}},
      {"SliceGrad", "Slice", {kFromAttribute, 1, 2, 3, 4}, {0}},
      {"ResizeGrad", "Resize", {kFromAttribute, 1, 2, 3}, {0}},
      {"LayerNormalizationGrad", "Identity", {1}, {0}},
      {"BatchNormalizationGrad", "Identity", {1}, {0}},
      {"RnnGrad", "RNN", {0, 1, 2, 3, 4, 5}, {6, 7}},
      {"LstmGrad", "LSTM", {0, 1, 2, 3, 4, 5, 6, 7}, {8, 9, 10}},
      {"GruGrad", "GRU", {0, 1, 2, 3, 4, 5}, {6, 7}},
      {"SoftmaxCrossEntropyGrad", "SoftmaxCrossEntropyLoss", {1, 2}, {0}},
      {"NegativeLogLikelihoodLossGrad", "NegativeLogLikelihoodLoss", {kFromAttribute, 1}, {0}},
  };
  return rows;
}

// Shapes do not depend on which float type it is, and the gradient operator's operands may have several.
ValueId add_operand(Graph& forward, const Graph& graph, const Node& node, int operand) {
  if (operand == kFromAttribute)
    return forward.add_input("", DType::f32, Shape(node.attributes.get_ints("input_shape")));
  const ValueId id = node.input(static_cast<std::size_t>(operand));
  if (id == kNoValue) return kNoValue;
  const Value& value = graph[id];
  const bool is_other_float = is_float(value.dtype) && value.dtype != DType::f32;
  if (value.is_constant() && !is_other_float) return forward.add_constant("", value.constant);
  return forward.add_input("", is_other_float ? DType::f32 : value.dtype, value.shape);
}

}  // namespace

void check_gradient_shapes(const Graph& graph, const Node& node) {
  if (node.domain != kOwnDomain) return;
  const auto row = std::ranges::find(forward_operators(), node.op, &Forward::gradient);
  if (row == forward_operators().end()) return;
  Graph forward;
  std::vector<ValueId> operands;
  for (const int operand : row->operands) operands.push_back(add_operand(forward, graph, node, operand));
  Attributes attributes = node.attributes;
  attributes.remove("input_shape");
  const std::size_t index = forward.add_node(row->op, kOnnxDomain, std::move(operands), row->results.size(),
                                             std::move(attributes), node.name);
  infer_node(forward, forward.nodes[index]);
  for (std::size_t i = 0; i < row->results.size(); ++i) {
    const ValueId gradient = node.input(row->results[i]);
    if (gradient == kNoValue) continue;
    const Shape& given = graph[gradient].shape;
    const Shape& wanted = forward[forward.nodes[index].outputs[i]].shape;
    if (!may_be_equal(given, wanted))
      throw_input_error(
          fmt::format("a gradient of the forward operator's shape {}", wanted.to_string()),
          fmt::format("{} for operand {} of {} '{}'", given.to_string(), row->results[i], node.op, node.name),
          "check the shapes fed to it");
  }
}

}  // namespace halfstep::ops
