// Schemas of operators of ai.halfstep that have files of their own, for the tables of their families.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

// Convolution
void fused_conv_schema(onnx::OpSchema& schema);
void conv_grad_input_schema(onnx::OpSchema& schema);
void conv_grad_weight_schema(onnx::OpSchema& schema);

// Losses
void softmax_cross_entropy_grad_schema(onnx::OpSchema& schema);
void negative_log_likelihood_loss_grad_schema(onnx::OpSchema& schema);

// Movement: gradients that scatter elements back to where the forward operator read them
void gather_grad_schema(onnx::OpSchema& schema);
void slice_grad_schema(onnx::OpSchema& schema);

// Normalization
void fused_batch_normalization_schema(onnx::OpSchema& schema);
void batch_normalization_grad_schema(onnx::OpSchema& schema);

// Optimizers; the last is for the one whose operator has the schema's name
void global_norm_schema(onnx::OpSchema& schema);
void loss_scale_update_schema(onnx::OpSchema& schema);
void optimizer_step_schema(onnx::OpSchema& schema);

// Pooling
void max_pool_grad_schema(onnx::OpSchema& schema);
void average_pool_grad_schema(onnx::OpSchema& schema);

// Recurrent: inputs are those of the forward operator, then the gradients of its outputs, absent if there are none;
// outputs the gradients of X, W, R, B, initial_h and, for LSTM, of initial_c and P
void rnn_grad_schema(onnx::OpSchema& schema);
void lstm_grad_schema(onnx::OpSchema& schema);
void gru_grad_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
