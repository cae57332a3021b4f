#include "executors/cudnn/kernel_table.h"

namespace halfstep::cudnn {

std::vector<core::KernelRow> kernel_table() {
  return {
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
      {"Sign", kOnnxDomain, {make_unary}},
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
      {"AdamWStep", kOwnDomain, {make_adam}},
      {"SgdStep", kOwnDomain, {make_sgd}},
  };
}

std::vector<Fusion> fusions() {
  return {
      {.op = "Gemm", .fused = "FusedGemm", .activations = {"Relu", "Gelu"}, .widens = true},
      {.op = "MatMul", .fused = "FusedMatMul", .widens = true},
      {.op = "Conv", .fused = "FusedConv", .activations = {"Relu"}},
      {.op = "", .fused = "ConvGradWeight", .widens = true},
  };
}

}  // namespace halfstep::cudnn
