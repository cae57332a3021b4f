// One time step of RNN, LSTM and GRU cells and the way back through it, on the calling thread: products of f32 or bf16,
// with sums and everything else in f32. What a row (sequence) gets does not depend on the rows beside it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// ONNX's cells with their default activations, or Relu for RNN; GRU with linear_before_reset.
enum class RecurrentCell { rnn_tanh, rnn_relu, lstm, gru };

constexpr std::int64_t gates_of(RecurrentCell cell) {
  if (cell == RecurrentCell::lstm) return 4;
  return cell == RecurrentCell::gru ? 3 : 1;
}

struct RecurrentShape {
  RecurrentCell cell = RecurrentCell::rnn_tanh;
  std::int64_t hidden = 0;
  std::int64_t stride = 0;  ///< elements from one row of gates, or of their gradients, to the next

  std::int64_t gates() const { return gates_of(cell); }
};

/// H is `hidden`, G the number of gates, in ONNX's order. States are [rows, H].
struct RecurrentForward {
  const void* weights = nullptr;  ///< R as RecurrentKernel::pack lays it
  const float* bias = nullptr;    ///< ONNX's B [2, G*H], or null
  const float* h = nullptr;       ///< before the step
  const float* c = nullptr;       ///< before the step; LSTM
  float* gates = nullptr;         ///< [rows, G*H]: W x, which becomes the activated gates
  float* linear = nullptr;        ///< GRU: R h + bias of the hidden gate, a state
  float* h_after = nullptr;       ///< none of the states before
  float* c_after = nullptr;       ///< LSTM
  float* y = nullptr;             ///< gets h_after too; may be null
  // For products of bf16; null otherwise.
  const bf16* h_rounded = nullptr;  ///< h
  bf16* rounded_after = nullptr;    ///< gets h_after too; may be null
};

struct RecurrentBackward {
  const void* weights = nullptr;  ///< R as RecurrentKernel::pack_backward lays it
  const float* gates = nullptr;   ///< activated
  const float* h = nullptr;       ///< before the step
  const float* c = nullptr;       ///< before the step; LSTM
  const float* linear = nullptr;  ///< GRU
  const float* dy = nullptr;      ///< is added to dh; may be null
  float* dh = nullptr;            ///< of the state after the step, which becomes that of the state before
  float* dc = nullptr;            ///< likewise; LSTM
  // Of the products' type.
  void* input = nullptr;      ///< gets the gradient of W x [rows, G*H]
  void* recurrent = nullptr;  ///< GRU: gets that of R h, which for other cells is the same
};

/// Found when a step is compiled.
class RecurrentKernel {
 public:
  struct Functions {
    void (*pack)(const RecurrentShape& shape, const void* r, void* packed, std::int64_t panel) = nullptr;
    void (*pack_backward)(const RecurrentShape& shape, const void* r, void* packed, std::int64_t panel) = nullptr;
    void (*forward)(const RecurrentShape& shape, const RecurrentForward& step, std::int64_t rows) = nullptr;
    void (*backward)(const RecurrentShape& shape, const RecurrentBackward& step, std::int64_t rows) = nullptr;
    std::int64_t lanes = 1, rows = 1;
    std::size_t element_bytes = 0;
  };

  RecurrentKernel(Functions functions, RecurrentShape shape) : functions_(functions), shape_(shape) {}

  explicit operator bool() const { return functions_.forward != nullptr; }
  /// Calls are fastest for multiples of this many rows.
  std::int64_t rows_together() const { return functions_.rows; }
  /// Panels of as many columns of R^T, or on the way back of R, as a vector has lanes; each can be packed by itself.
  std::int64_t panels() const { return (shape_.hidden + functions_.lanes - 1) / functions_.lanes; }
  /// Elements of R of one direction, packed.
  std::int64_t packed_count() const { return panels() * functions_.lanes * shape_.gates() * shape_.hidden; }
  /// Of an element of R, packed or not, and of gradients of gates.
  std::size_t element_bytes() const { return functions_.element_bytes; }
  /// From R [G*H, H] in the products' type.
  void pack(const void* r, void* packed, std::int64_t panel) const { functions_.pack(shape_, r, packed, panel); }
  void pack_backward(const void* r, void* packed, std::int64_t panel) const {
    functions_.pack_backward(shape_, r, packed, panel);
  }

  void operator()(const RecurrentForward& step, std::int64_t rows) const { functions_.forward(shape_, step, rows); }
  void operator()(const RecurrentBackward& step, std::int64_t rows) const { functions_.backward(shape_, step, rows); }

 private:
  Functions functions_;
  RecurrentShape shape_;
};

/// With products of f32, which every CPU has, or of bf16: empty unless the CPU multiplies those and `hidden` is even.
RecurrentKernel find_recurrent(const RecurrentShape& shape, DType products);

}  // namespace halfstep::simd
