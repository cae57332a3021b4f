// Schemas of the gradients of RNN, LSTM and GRU.
#pragma once

namespace onnx {
class OpSchema;
}

namespace halfstep::ops {

/// Inputs of the forward operator, then the gradients of its outputs, absent if there are none; outputs: the gradients
/// of X, W, R, B, initial_h and, for LSTM, of initial_c and P.
void rnn_grad_schema(onnx::OpSchema& schema);
void lstm_grad_schema(onnx::OpSchema& schema);
void gru_grad_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
