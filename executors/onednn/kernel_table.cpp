#include "executors/onednn/kernel_table.h"

#include "executors/onednn/kernels/attention.h"
#include "executors/onednn/kernels/chain.h"
#include "executors/onednn/kernels/kernels.h"
#include "ops/elementwise/formula.h"

namespace halfstep::onednn {

namespace {

/// Of every operator that has a formula.
std::vector<core::KernelRow> formula_rows() {
  std::vector<core::KernelRow> rows;
  for (const ops::FormulaDef& def : ops::all_formulas()) {
    if (!def.row.variant.attribute.empty()) continue;
    core::KernelRow row{def.row.op, def.domain(), {}};
    if (!def.row.on_truth) row.makers.push_back(def.operands == 1 ? make_unary : make_binary);
    if (def.on_unsigned && !def.row.divides && def.parameters == 0) row.makers.push_back(make_plain_arithmetic);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::vector<core::KernelRow> kernel_table() {
  std::vector<core::KernelRow> rows = {
      // Matrix products
      {"Gemm", kOnnxDomain, {make_gemm}},
      {"FusedGemm", kOwnDomain, {make_gemm}},
      {"MatMul", kOnnxDomain, {make_matmul}},
      {"FusedMatMul", kOwnDomain, {make_matmul}},
      // Convolution
      {"Conv", kOnnxDomain, {make_convolution}},
      {"FusedConv", kOwnDomain, {make_convolution}},
      {"ConvGradInput", kOwnDomain, {make_convolution_grad_input}},
      {"ConvGradWeight", kOwnDomain, {make_convolution_grad_weight}},
      {"ConvTranspose", kOnnxDomain, {make_convolution_transpose}},
      // Pooling
      {"MaxPool", kOnnxDomain, {make_max_pool}},
      {"MaxPoolGrad", kOwnDomain, {make_max_pool_grad}},
      {"AveragePool", kOnnxDomain, {make_average_pool}},
      {"AveragePoolGrad", kOwnDomain, {make_average_pool_grad}},
      {"GlobalAveragePool", kOnnxDomain, {make_global_average_pool, make_reduce}},
      // Normalization
      {"BatchNormalization", kOnnxDomain, {make_batch_normalization}},
      {"FusedBatchNormalization", kOwnDomain, {make_batch_normalization}},
      {"BatchNormalizationGrad", kOwnDomain, {make_batch_normalization_grad}},
      {"LayerNormalization", kOnnxDomain, {make_layer_normalization}},
      {"LayerNormalizationGrad", kOwnDomain, {make_layer_normalization_grad}},
      {"InstanceNormalization", kOnnxDomain, {make_instance_normalization}},
      {"PhiloxDropout", kOwnDomain, {make_dropout}},
      {"Dropout", kOnnxDomain, {make_idle_dropout}},
      // Elementwise operators without a formula; formula_rows has the others
      {"Cast", kOnnxDomain, {make_cast}},
      {"CastLike", kOnnxDomain, {make_cast}},
      {"Where", kOnnxDomain, {make_where}},
      {"ElementwiseChain", kOwnDomain, {make_chain}},
      // Attention
      {"FusedAttention", kOwnDomain, {make_fused_attention}},
      {"AttentionGrad", kOwnDomain, {make_attention_grad}},
      // Reductions, softmax and losses
      {"ReduceSum", kOnnxDomain, {make_reduce}},
      {"ReduceMean", kOnnxDomain, {make_reduce}},
      {"ReduceSumSquare", kOnnxDomain, {make_reduce}},
      {"ReduceMax", kOnnxDomain, {make_reduce}},
      {"ReduceMin", kOnnxDomain, {make_reduce}},
      {"Softmax", kOnnxDomain, {make_softmax}},
      {"LogSoftmax", kOnnxDomain, {make_softmax}},
      {"SoftmaxGrad", kOwnDomain, {make_softmax_grad}},
      {"LogSoftmaxGrad", kOwnDomain, {make_softmax_grad}},
      {"SoftmaxCrossEntropyLoss", kOnnxDomain, {make_cross_entropy}},
      {"SoftmaxCrossEntropyGrad", kOwnDomain, {make_cross_entropy_grad}},
      // Recurrent cells
      {"RNN", kOnnxDomain, {make_recurrent}},
      {"LSTM", kOnnxDomain, {make_recurrent}},
      {"GRU", kOnnxDomain, {make_recurrent}},
      {"RnnGrad", kOwnDomain, {make_recurrent_grad}},
      {"LstmGrad", kOwnDomain, {make_recurrent_grad}},
      {"GruGrad", kOwnDomain, {make_recurrent_grad}},
      // Moving elements
      {"Transpose", kOnnxDomain, {make_transpose}},
      {"Concat", kOnnxDomain, {make_row_major_concat, make_concat}},
      {"Slice", kOnnxDomain, {make_slice}},
      {"SliceGrad", kOwnDomain, {make_slice_grad}},
      {"Split", kOnnxDomain, {make_split}},
      {"Pad", kOnnxDomain, {make_pad}},
      {"Gather", kOnnxDomain, {make_gather}},
      {"GatherGrad", kOwnDomain, {make_gather_grad}},
      {"Expand", kOnnxDomain, {make_expand}},
      {"Resize", kOnnxDomain, {make_resize}},
      {"ResizeGrad", kOwnDomain, {make_resize_grad}},
      // The end of a training step
      {"GlobalNorm", kOwnDomain, {make_global_norm}},
      {"LossScaleUpdate", kOwnDomain, {make_loss_scale_update}},
      {"AdamStep", kOwnDomain, {make_adam_step}},
      {"AdamWStep", kOwnDomain, {make_adam_step}},
      {"SgdStep", kOwnDomain, {make_sgd_step}},
  };
  for (core::KernelRow& row : formula_rows()) rows.push_back(std::move(row));
  return rows;
}

std::vector<Fusion> fusions() {
  return {
      {.op = "Gemm", .fused = "FusedGemm", .activations = {"Relu", "Gelu"}, .widens = true},
      {.op = "MatMul", .fused = "FusedMatMul", .widens = true},
      {.op = "Conv", .fused = "FusedConv", .activations = {"Relu", "Gelu"}, .adds = true},
      {.op = "BatchNormalization", .fused = "FusedBatchNormalization", .activations = {"Relu", "Clip"}},
      {.op = "", .fused = "ConvGradWeight", .widens = true},
      {.op = "Attention", .fused = "FusedAttention"},
  };
}

}  // namespace halfstep::onednn
