#include "ops/cost_rules.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "ops/attention/attention.h"
#include "ops/attention/fused_attention.h"
#include "ops/elementwise/chain.h"
#include "ops/optimizers/update_graph.h"

namespace halfstep::ops {
namespace {

template <int flops>
double each(const CostCall& call) {
  return flops * largest(call);
}

double each_operand_twice(const CostCall& call) {
  double elements = 0;
  for (std::size_t i = 0; i < call.node().inputs.size(); ++i) elements += call.in(i);
  return 2 * elements;
}

/// FLOPs of the activation that a fused operator applies last.
double activation(const CostCall& call) { return call.node().attributes.has("activation") ? call.out() : 0; }

// Matrix products: each element of the result is a sum along an axis of A, and C if present.
double product(const CostCall& call) {
  const bool transposed = call.node().attributes.get_int("transA", 0) != 0;
  const double terms = call.in_extent(0, transposed ? -2 : -1);
  return 2 * call.out() * terms + (call.has_in(2) ? call.out() : 0) + activation(call);
}

// Convolutions: a product and a sum per tap of a filter, including those in the padding. The number of taps of a filter
// is the number of elements of the weights per index of their first axis.
double taps(double weights, double filters) { return filters > 0 ? weights / filters : 0; }

double convolution(const CostCall& call) {
  const double bias = call.has_in(2) ? call.out() : 0, residual = call.has_in(3) ? call.out() : 0;
  return 2 * call.out() * taps(call.in(1), call.in_extent(1, 0)) + bias + residual + activation(call);
}
double transposed_convolution(const CostCall& call) {
  const double bias = call.has_in(2) ? call.out() : 0;
  return 2 * call.in(0) * taps(call.in(1), call.in_extent(1, 0)) + bias;
}
double convolution_input_gradient(const CostCall& call) {
  return 2 * call.in(0) * taps(call.in(1), call.in_extent(1, 0));
}
double convolution_weight_gradient(const CostCall& call) {
  return 2 * call.in(0) * taps(call.out(), call.out_extent(0, 0));
}

// Pooling: one FLOP per element of every window.
double window(const CostCall& call) {
  double elements = 1;
  for (const std::int64_t extent : call.node().attributes.get_ints("kernel_shape"))
    elements *= static_cast<double>(extent);
  return elements;
}
double pooling(const CostCall& call) { return call.out() * window(call); }
double pooling_gradient(const CostCall& call) { return call.in(0) * window(call); }

// Recurrent layers: the operations of the gates other than products are not counted.
double steps_times_batch(const CostCall& call) {
  const double inputs = call.in_extent(0, -1);
  return inputs > 0 ? call.in(0) / inputs : 0;
}
/// The products with each step's input, and with the state before it.
double recurrent(const CostCall& call) { return 2 * steps_times_batch(call) * (call.in(1) + call.in(2)); }
/// The gradient of the state before each step; and those of X, W and R if requested.
double recurrent_gradient(const CostCall& call) {
  const auto asked = [&](std::size_t output) { return call.node().output(output) == kNoValue ? 0.0 : 1.0; };
  return 2 * steps_times_batch(call) * (call.in(1) * (asked(0) + asked(1)) + call.in(2) * (1 + asked(2)));
}

/// Scores, their Softmax, and the weighted sum of values. Scores that a mask hides are counted.
double attention(const CostCall& call) {
  std::vector<Shape> shapes;
  for (const ValueId in : call.node().inputs) shapes.push_back(in == kNoValue ? Shape() : call.graph()[in].shape);
  if (!std::ranges::all_of(shapes, &Shape::is_static)) return 0;
  const AttentionConfig c(call.node(), shapes);
  return static_cast<double>(c.scores().count()) * static_cast<double>(2 * (c.head + c.value_head) + 5);
}

double fused_attention(const CostCall& call) {
  const FusedAttentionConfig c(call.node().attributes);
  return c.scores() * static_cast<double>(2 * (c.head + c.value_head) + 5);
}
/// The scores again, and four products for their gradients.
double attention_gradient(const CostCall& call) {
  const FusedAttentionConfig c(call.node().attributes);
  return c.scores() * static_cast<double>(6 * c.head + 4 * c.value_head + 7);
}

/// A factor and a summand per element, in training before that its contribution to mean and variance, and what is
/// added.
double batch_normalization(const CostCall& call) {
  const bool training = call.node().attributes.get_int("training_mode", 0) != 0;
  const bool is_added_to = call.node().input(5) != kNoValue;
  return ((training ? 6 : 2) + (is_added_to ? 1 : 0)) * call.in(0) + activation(call);
}

/// The FLOPs of its separate nodes.
double chain(const CostCall& call) {
  const Graph body = typed_chain_body(call.graph(), call.node());
  double flops = 0;
  for (const Node& node : body.nodes) flops += cost_of(body, node).flops;
  return flops;
}

/// The nodes of an optimizer's row for one element, times the number of elements of the parameters.
double update(const CostCall& call) {
  constexpr std::int64_t kSide = 32;
  const OptimizerDef& row = *optimizer_of(call.node());
  const Hyperparameters h(row, call.node().attributes);
  const Graph graph = update_graph(row, h, Shape{kSide, kSide});
  double flops = 0, elements = 0;
  for (const Node& node : graph.nodes) flops += cost_of(graph, node).flops;
  const StepOperands operands(call.node());
  for (std::size_t i = 0; i < operands.parameters; ++i) elements += call.in(operands.parameter(i));
  // Values computed once per parameter do not count per element.
  return std::floor(flops / (kSide * kSide)) * elements;
}

struct Row {
  std::string_view op, domain;
  CostRule rule;
};
constexpr Row kRows[] = {
    {"MatMul", kOnnxDomain, product},
    {"Gemm", kOnnxDomain, product},
    {"FusedGemm", kOwnDomain, product},
    {"FusedMatMul", kOwnDomain, product},
    {"GemmActivation", kOwnDomain, product},
    {"GemmActivationGrad", kOwnDomain, product},
    {"GemmSums", kOwnDomain, product},
    {"Einsum", kOnnxDomain, einsum_cost},
    {"Conv", kOnnxDomain, convolution},
    {"FusedConv", kOwnDomain, convolution},
    {"ConvTranspose", kOnnxDomain, transposed_convolution},
    {"ConvGradInput", kOwnDomain, convolution_input_gradient},
    {"ConvGradWeight", kOwnDomain, convolution_weight_gradient},
    {"MaxPool", kOnnxDomain, pooling},
    {"AveragePool", kOnnxDomain, pooling},
    {"LpPool", kOnnxDomain, pooling},
    {"AveragePoolGrad", kOwnDomain, pooling_gradient},
    {"RNN", kOnnxDomain, recurrent},
    {"LSTM", kOnnxDomain, recurrent},
    {"GRU", kOnnxDomain, recurrent},
    {"RnnGrad", kOwnDomain, recurrent_gradient},
    {"LstmGrad", kOwnDomain, recurrent_gradient},
    {"GruGrad", kOwnDomain, recurrent_gradient},
    {"Attention", kOnnxDomain, attention},
    {"FusedAttention", kOwnDomain, fused_attention},
    {"AttentionGrad", kOwnDomain, attention_gradient},
    {kChain, kOwnDomain, chain},
    {"RotaryEmbedding", kOnnxDomain, each<3>},
    // The maximum, the difference from it, its exponential, their sum, a division.
    {"Softmax", kOnnxDomain, each<5>},
    {"LogSoftmax", kOnnxDomain, each<5>},
    {"SoftmaxGrad", kOwnDomain, each<4>},
    {"LogSoftmaxGrad", kOwnDomain, each<4>},
    {"SoftmaxCrossEntropyLoss", kOnnxDomain, each<4>},
    {"SoftmaxCrossEntropyGrad", kOwnDomain, each<3>},
    {"BatchNormalization", kOnnxDomain, batch_normalization},
    {"FusedBatchNormalization", kOwnDomain, batch_normalization},
    {"BatchNormalizationGrad", kOwnDomain, each<10>},
    {"LayerNormalization", kOnnxDomain, each<8>},
    {"InstanceNormalization", kOnnxDomain, each<8>},
    {"GroupNormalization", kOnnxDomain, each<8>},
    {"LayerNormalizationGrad", kOwnDomain, each<12>},
    {"GlobalNorm", kOwnDomain, each_operand_twice},
};

}  // namespace

double largest(const CostCall& call) {
  double most = 0;
  for (std::size_t i = 0; i < call.node().inputs.size(); ++i) most = std::max(most, call.in(i));
  for (std::size_t i = 0; i < call.node().outputs.size(); ++i) most = std::max(most, call.out(i));
  return most;
}

CostRule cost_rule(const Node& node) {
  const auto row = std::ranges::find_if(kRows, [&](const Row& each) { return node.is(each.op, each.domain); });
  if (row != std::end(kRows)) return row->rule;
  return optimizer_of(node) ? update : nullptr;
}

}  // namespace halfstep::ops
