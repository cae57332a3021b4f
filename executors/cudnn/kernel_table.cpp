#include "executors/cudnn/kernel_table.h"

#include <algorithm>

#include <fmt/format.h>

namespace halfstep::cudnn {
namespace {

bool is_on_device(DType t) {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::i32 || t == DType::i64 ||
         t == DType::boolean;
}

/// Why the device cannot hold a value, or nothing.
std::string why_not(const Value& value) {
  if (!value.shape.is_static()) return fmt::format("the shape of {} depends on data", value.name);
  if (!is_on_device(value.dtype))
    return fmt::format("{} is {}, which the device has no kernels for", value.name, name_of(value.dtype));
  if (value.shape.count() == 0) return fmt::format("{} has no elements", value.name);
  return {};
}

}  // namespace

std::span<const KernelRow<Maker>> kernel_table() {
  static const std::vector<KernelRow<Maker>> table = {
      {"Gemm", kOnnxDomain, {make_gemm}},
      {"FusedGemm", kOwnDomain, {make_gemm}},
      {"MatMul", kOnnxDomain, {make_matmul}},
      {"FusedMatMul", kOwnDomain, {make_matmul}},
      {"Conv", kOnnxDomain, {make_convolution}},
      {"FusedConv", kOwnDomain, {make_convolution}},
      {"ConvGradInput", kOwnDomain, {make_convolution_grad_input}},
      {"ConvGradWeight", kOwnDomain, {make_convolution_grad_weight}},
      {"MaxPool", kOnnxDomain, {make_pool_cudnn, make_pool_own}},
      {"AveragePool", kOnnxDomain, {make_pool_cudnn, make_pool_own}},
      {"GlobalAveragePool", kOnnxDomain, {make_pool_cudnn, make_pool_own}},
      {"GlobalMaxPool", kOnnxDomain, {make_pool_cudnn, make_pool_own}},
      // Own kernels only: cuDNN's backward pass leaves open which of several equal maxima takes the gradient.
      {"MaxPoolGrad", kOwnDomain, {make_pool_grad}},
      {"AveragePoolGrad", kOwnDomain, {make_pool_grad}},
      {"Relu", kOnnxDomain, {make_unary}},
      {"Neg", kOnnxDomain, {make_unary}},
      {"Exp", kOnnxDomain, {make_unary}},
      {"Log", kOnnxDomain, {make_unary}},
      {"Sqrt", kOnnxDomain, {make_unary}},
      {"Abs", kOnnxDomain, {make_unary}},
      {"Reciprocal", kOnnxDomain, {make_unary}},
      {"Sigmoid", kOnnxDomain, {make_unary}},
      {"Tanh", kOnnxDomain, {make_unary}},
      {"ReluGrad", kOwnDomain, {make_relu_grad}},
      {"Add", kOnnxDomain, {make_binary}},
      {"Sub", kOnnxDomain, {make_binary}},
      {"Mul", kOnnxDomain, {make_binary}},
      {"Div", kOnnxDomain, {make_binary}},
      {"Min", kOnnxDomain, {make_binary}},
      {"Max", kOnnxDomain, {make_binary}},
      {"And", kOnnxDomain, {make_binary}},
      {"Where", kOnnxDomain, {make_where}},
      {"Cast", kOnnxDomain, {make_cast}},
      {"Expand", kOnnxDomain, {make_expand}},
      {"Transpose", kOnnxDomain, {make_transpose}},
      {"ReduceSum", kOnnxDomain, {make_reduce_sum}},
      {"ReduceMean", kOnnxDomain, {make_reduce_sum}},
      {"Softmax", kOnnxDomain, {make_softmax}},
      {"LogSoftmax", kOnnxDomain, {make_softmax}},
      {"SoftmaxGrad", kOwnDomain, {make_softmax_grad}},
      {"LogSoftmaxGrad", kOwnDomain, {make_softmax_grad}},
      {"SoftmaxCrossEntropyLoss", kOnnxDomain, {make_cross_entropy}},
      {"SoftmaxCrossEntropyGrad", kOwnDomain, {make_cross_entropy_grad}},
      {"GlobalNorm", kOwnDomain, {make_global_norm}},
      {"LossScaleUpdate", kOwnDomain, {make_loss_scale_update}},
      {"AdamStep", kOwnDomain, {make_adam}},
      {"SgdStep", kOwnDomain, {make_sgd}},
  };
  return table;
}

std::vector<std::string_view> own_operators() {
  std::vector<std::string_view> names;
  for (const KernelRow<Maker>& row : kernel_table())
    if (row.domain == kOwnDomain) names.push_back(row.op);
  return names;
}

bool is_view(const Node& node) {
  constexpr std::string_view kViews[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"};
  return node.domain == kOnnxDomain && std::ranges::find(kViews, node.op) != std::end(kViews);
}

Made make_kernel(const Site& site) {
  const std::span<const Maker> makers = makers_of(kernel_table(), site.node);
  if (makers.empty()) return Refusal{"the cudnn executor has no kernel for this operator"};
  for (const auto* ids : {&site.node.inputs, &site.node.outputs})
    for (ValueId id : *ids) {
      if (id == kNoValue) continue;
      if (std::string reason = why_not(site.graph[id]); !reason.empty()) return Refusal{std::move(reason)};
    }
  Refusal all;
  for (Maker maker : makers) {
    Made made = maker(site);
    if (std::holds_alternative<DeviceKernel>(made)) return made;
    if (!all.reason.empty()) all.reason += "; ";
    all.reason += std::get<Refusal>(made).reason;
  }
  return all;
}

}  // namespace halfstep::cudnn
