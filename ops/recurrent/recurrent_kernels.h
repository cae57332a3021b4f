// Reference kernels of RNN, LSTM, GRU and of their gradients.
#pragma once

#include "ops/recurrent/recurrent_cell.h"
#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

/// Inputs of Cell's ONNX operator; those of its gradient are these and then the gradients of its outputs.
template <class Cell>
inline constexpr std::size_t kRecurrentInputs = Cell::kStates == 2 ? 8 : 6;

/// Inputs of Cell's ONNX operator that have a gradient, in the order of the gradient operator's outputs.
template <class Cell>
inline constexpr std::array<std::size_t, Cell::kStates == 2 ? 7 : 5> kRecurrentDifferentiated = [] {
  if constexpr (Cell::kStates == 2)
    return std::array<std::size_t, 7>{0, 1, 2, 3, 5, 6, 7};
  else
    return std::array<std::size_t, 5>{0, 1, 2, 3, 5};
}();

template <class Cell>
void recurrent(KernelCall& call);
template <class Cell>
void recurrent_grad(KernelCall& call);

}  // namespace halfstep::ops
