// Kernels that compute every element of the result by itself: `operator()(i)` writes element i.
#pragma once

#include "executors/cudnn/kernels/index.h"

namespace halfstep::cudnn {

/// y[i] = x[index(i)] as To: another order or type, and the broadcast of Gemm's C.
template <class From, class To>
struct Copy {
  const From* x;
  To* y;
  Index index;

  HALFSTEP_HD void operator()(std::int64_t i) const { y[i] = round_to<To>(load(x[index(i)])); }
};

/// y = activation(x + bias[channel] + residual), of [batch, channels, inner]; what follows a convolution. `x` may be
/// `y`. bias and residual may be null.
template <class T, class To>
struct BiasActivation {
  const T* x;
  const T* bias;
  const T* residual;
  To* y;
  std::int64_t channels, inner;
  bool relu;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    float v = load(x[i]);
    if (bias) v += load(bias[i / inner % channels]);
    if (residual) v += load(residual[i]);
    y[i] = round_to<To>(relu && v < 0 ? 0.0f : v);
  }
};

}  // namespace halfstep::cudnn
