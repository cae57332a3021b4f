// The families of the operator table: each file of this folder defines one of these lists.
#pragma once

#include <span>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::span<const OpDef> activation_ops();      // Relu Sigmoid Clip Gelu Softmax …
std::span<const OpDef> attention_ops();       // Attention RotaryEmbedding
std::span<const OpDef> binary_ops();          // Add Mul Pow Equal Where …
std::span<const OpDef> control_flow_ops();    // If Loop Scan
std::span<const OpDef> convolution_ops();     // Conv and its gradients
std::span<const OpDef> einsum_ops();          // Einsum
std::span<const OpDef> loss_ops();            // SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss and their gradients
std::span<const OpDef> matmul_ops();          // MatMul Gemm
std::span<const OpDef> normalization_ops();   // BatchNormalization Dropout … and their gradients
std::span<const OpDef> onnx_optimizer_ops();  // those of ai.onnx.preview.training
std::span<const OpDef> optimizer_ops();       // GlobalNorm LossScaleUpdate and the step of every optimizer
std::span<const OpDef> pooling_ops();         // MaxPool AveragePool GlobalAveragePool … and their gradients
std::span<const OpDef> recurrent_ops();       // RNN LSTM GRU and their gradients
std::span<const OpDef> reduction_ops();       // ReduceSum ReduceMean ArgMax …
std::span<const OpDef> shape_ops();           // Reshape Transpose Concat Slice Gather …
std::span<const OpDef> unary_ops();           // Neg Exp Sqrt Cast Identity …

}  // namespace halfstep::ops
