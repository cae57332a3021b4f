#include "executors/cudnn/kernel_table.h"

#include <iterator>

#include "executors/cudnn/attention.h"
#include "executors/cudnn/generators.h"
#include "executors/cudnn/loaded_kernel.h"
#include "executors/cudnn/update_text.h"
#include "ops/elementwise/formula.h"
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::cudnn {
namespace {

/// Of every operator that has a formula.
std::vector<core::KernelRow> formula_rows() {
  std::vector<core::KernelRow> rows;
  for (const ops::FormulaDef& def : ops::all_formulas())
    if (def.row.variant.attribute.empty()) rows.push_back({def.row.op, def.domain(), {make_generated}});
  return rows;
}

/// Of every optimizer whose update kernels can be made from its row.
std::vector<core::KernelRow> optimizer_rows() {
  std::vector<core::KernelRow> rows;
  for (const OptimizerDef& row : optimizers())
    if (has_update_texts(row)) rows.push_back({row.op, kOwnDomain, {make_optimizer_step}});
  return rows;
}

}  // namespace

std::vector<core::KernelRow> kernel_table() {
  std::vector<core::KernelRow> rows = {
      {"Gemm", kOnnxDomain, {or_refuse<make_gemm>}},
      {"FusedGemm", kOwnDomain, {or_refuse<make_gemm>}},
      {"GemmActivation", kOwnDomain, {or_refuse<make_gemm_activation>}},
      {"GemmActivationGrad", kOwnDomain, {or_refuse<make_gemm_activation_grad>}},
      {"GemmSums", kOwnDomain, {or_refuse<make_gemm_sums>}},
      {"MatMul", kOnnxDomain, {or_refuse<make_matmul>}},
      {"FusedMatMul", kOwnDomain, {or_refuse<make_matmul>}},
      {"Conv", kOnnxDomain, {or_refuse<make_convolution>}},
      {"FusedConv", kOwnDomain, {or_refuse<make_convolution>}},
      {"ConvTranspose", kOnnxDomain, {or_refuse<make_convolution_transpose>}},
      {"ConvGradInput", kOwnDomain, {or_refuse<make_convolution_grad_input>}},
      {"ConvGradWeight", kOwnDomain, {or_refuse<make_convolution_grad_weight>}},
      {"MaxPool", kOnnxDomain, {or_refuse<make_pool_cudnn>, make_pool_own}},
      {"AveragePool", kOnnxDomain, {or_refuse<make_pool_cudnn>, make_pool_own}},
      {"GlobalAveragePool", kOnnxDomain, {or_refuse<make_pool_cudnn>, make_pool_own}},
      {"GlobalMaxPool", kOnnxDomain, {or_refuse<make_pool_cudnn>, make_pool_own}},
      // Own kernels only: cuDNN's backward pass leaves open which of several equal maxima takes the gradient.
      {"MaxPoolGrad", kOwnDomain, {make_pool_grad}},
      {"AveragePoolGrad", kOwnDomain, {make_pool_grad}},
      // Elementwise operators without a formula; formula_rows has the others.
      {"Cast", kOnnxDomain, {make_generated}},
      {"CastLike", kOnnxDomain, {make_generated}},
      {"Where", kOnnxDomain, {make_generated}},
      {"Sum", kOnnxDomain, {make_generated}},
      {"Mean", kOnnxDomain, {make_generated}},
      {"BitwiseNot", kOnnxDomain, {make_generated}},
      {"BitwiseAnd", kOnnxDomain, {make_generated}},
      {"BitwiseOr", kOnnxDomain, {make_generated}},
      {"BitwiseXor", kOnnxDomain, {make_generated}},
      {"ElementwiseChain", kOwnDomain, {make_chain}},
      {"Expand", kOnnxDomain, {make_expand}},
      {"Transpose", kOnnxDomain, {or_refuse<make_transpose_tiled>, or_refuse<make_transpose>}},
      {"Tile", kOnnxDomain, {make_tile}},
      {"Slice", kOnnxDomain, {make_slice}},
      {"SliceGrad", kOwnDomain, {make_slice_grad}},
      {"Split", kOnnxDomain, {make_split}},
      {"Concat", kOnnxDomain, {make_concat}},
      {"Pad", kOnnxDomain, {make_pad}},
      {"DepthToSpace", kOnnxDomain, {make_space_and_depth}},
      {"SpaceToDepth", kOnnxDomain, {make_space_and_depth}},
      {"Trilu", kOnnxDomain, {or_refuse<make_trilu>}},
      {"EyeLike", kOnnxDomain, {or_refuse<make_eye_like>}},
      {"RotaryEmbedding", kOnnxDomain, {or_refuse<make_rotary_embedding>}},
      {"Gather", kOnnxDomain, {make_gather}},
      {"GatherGrad", kOwnDomain, {make_gather_grad}},
      {"GatherElements", kOnnxDomain, {or_refuse<make_gather_elements>}},
      {"GatherND", kOnnxDomain, {or_refuse<make_gather_nd>}},
      {"ScatterElements", kOnnxDomain, {or_refuse<make_scatter_elements>}},
      {"ScatterND", kOnnxDomain, {or_refuse<make_scatter_nd>}},
      {"CumSum", kOnnxDomain, {or_refuse<make_cum_sum>}},
      {"CumProd", kOnnxDomain, {or_refuse<make_cum_sum>}},
      {"OneHot", kOnnxDomain, {or_refuse<make_one_hot>}},
      {"Range", kOnnxDomain, {or_refuse<make_range>}},
      {"Resize", kOnnxDomain, {or_refuse<make_resize>}},
      {"ResizeGrad", kOwnDomain, {or_refuse<make_resize_grad>}},
      {"Dropout", kOnnxDomain, {or_refuse<make_dropout>}},
      {"PhiloxDropout", kOwnDomain, {or_refuse<make_philox_dropout>}},
      {"PhiloxRandom", kOwnDomain, {or_refuse<make_philox_random>}},
      {"InstanceNormalization", kOnnxDomain, {or_refuse<make_group_normalization>}},
      {"GroupNormalization", kOnnxDomain, {or_refuse<make_group_normalization>}},
      {"LayerNormalization", kOnnxDomain, {make_layer_normalization}},
      {"LayerNormalizationGrad", kOwnDomain, {make_layer_normalization_grad}},
      {"BatchNormalization", kOnnxDomain, {make_batch_normalization}},
      {"FusedBatchNormalization", kOwnDomain, {make_batch_normalization}},
      {"BatchNormalizationGrad", kOwnDomain, {make_batch_normalization_grad}},
      {"ReduceSum", kOnnxDomain, {make_reduction}},
      {"ReduceMean", kOnnxDomain, {make_reduction}},
      {"ReduceMax", kOnnxDomain, {make_reduction}},
      {"ReduceMin", kOnnxDomain, {make_reduction}},
      {"ReduceProd", kOnnxDomain, {make_reduction}},
      {"ReduceL1", kOnnxDomain, {make_reduction}},
      {"ReduceL2", kOnnxDomain, {make_reduction}},
      {"ReduceSumSquare", kOnnxDomain, {make_reduction}},
      {"ReduceLogSum", kOnnxDomain, {make_reduction}},
      {"ReduceLogSumExp", kOnnxDomain, {make_reduction}},
      {"ArgMax", kOnnxDomain, {make_arg_extremum}},
      {"ArgMin", kOnnxDomain, {make_arg_extremum}},
      {"TopK", kOnnxDomain, {make_top_k}},
      {"RMSNormalization", kOnnxDomain, {make_rms_normalization}},
      {"Softmax", kOnnxDomain, {make_softmax}},
      {"LogSoftmax", kOnnxDomain, {make_softmax}},
      {"SoftmaxGrad", kOwnDomain, {make_softmax}},
      {"LogSoftmaxGrad", kOwnDomain, {make_softmax}},
      {"Hardmax", kOnnxDomain, {make_hardmax}},
      {"SoftmaxCrossEntropyLoss", kOnnxDomain, {make_cross_entropy}},
      {"SoftmaxCrossEntropyGrad", kOwnDomain, {make_cross_entropy_grad}},
      {"NegativeLogLikelihoodLoss", kOnnxDomain, {make_negative_log_likelihood}},
      {"NegativeLogLikelihoodLossGrad", kOwnDomain, {make_negative_log_likelihood_grad}},
      {"FusedAttention", kOwnDomain, {or_refuse<make_fused_attention_planned>, or_refuse<make_fused_attention>}},
      {"AttentionGrad", kOwnDomain, {or_refuse<make_attention_grad_planned>, or_refuse<make_attention_grad>}},
      {"RNN", kOnnxDomain, {or_refuse<make_recurrent_cudnn>, make_recurrent}},
      {"LSTM", kOnnxDomain, {or_refuse<make_recurrent_cudnn>, make_recurrent}},
      {"GRU", kOnnxDomain, {or_refuse<make_recurrent_cudnn>, make_recurrent}},
      {"RnnGrad", kOwnDomain, {or_refuse<make_recurrent_grad_cudnn>, make_recurrent_grad}},
      {"LstmGrad", kOwnDomain, {or_refuse<make_recurrent_grad_cudnn>, make_recurrent_grad}},
      {"GruGrad", kOwnDomain, {or_refuse<make_recurrent_grad_cudnn>, make_recurrent_grad}},
      {"GlobalNorm", kOwnDomain, {make_global_norm}},
      {"LossScaleUpdate", kOwnDomain, {make_loss_scale_update}},
  };
  static const std::vector<core::KernelRow> optimizers = optimizer_rows();
  rows.insert(rows.end(), optimizers.begin(), optimizers.end());
  for (core::KernelRow& row : formula_rows()) rows.push_back(std::move(row));
  return rows;
}

std::vector<Fusion> fusions() {
  std::vector<Fusion> all = {
      {.op = "Gemm", .fused = "FusedGemm", .widens = true},
      {.op = "MatMul", .fused = "FusedMatMul", .widens = true},
      {.op = "Conv", .fused = "FusedConv", .activations = {"Relu"}, .adds = true},
      {.op = "", .fused = "ConvGradWeight", .widens = true},
  };
  if (!generation_refusal().empty()) return all;
  // Generated kernels, at least where a library has none.
  all[0].activations = {"Relu", "Gelu"};
  const Fusion generated[] = {
      // Behind an exact Gelu an own kernel reads the product that the gradient reads, too: nothing is gained.
      {.op = "", .fused = "GemmActivation", .activations = {"Gelu(tanh)"}},
      {.op = "", .fused = "GemmActivationGrad", .activations = {"Gelu(tanh)"}},
      {.op = "", .fused = "GemmSums"},
      {.op = "BatchNormalization", .fused = "FusedBatchNormalization", .activations = {"Relu", "Clip"}, .adds = true},
      {.op = "Attention", .fused = "FusedAttention"},
  };
  all.insert(all.end(), std::begin(generated), std::end(generated));
  return all;
}

}  // namespace halfstep::cudnn
