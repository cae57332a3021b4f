// Recurrent networks by generated kernels, as what takes the place of cuDNN's.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "executors/cudnn/kernel.h"

namespace halfstep::cudnn {

struct RecurrentKernel {
  std::string refusal = {};  ///< why there is none
  std::size_t gates = 0;     ///< 4 of an LSTM, 3 of a GRU, 1 of an RNN
  std::function<void(const Launch&)> launch = {};
  std::size_t scratch_bytes = 0;
  std::size_t gradient_bytes = 0;  ///< those of the gradient
};
/// Of a node RNN, LSTM or GRU; of a gradient of these. Neither asks the context for operands or memory.
RecurrentKernel recurrent_kernel(KernelContext& context);
RecurrentKernel recurrent_grad_kernel(KernelContext& context);

/// Of one that is not refused.
DeviceKernel recurrent_kernel_of(const RecurrentKernel& kernel);

}  // namespace halfstep::cudnn
