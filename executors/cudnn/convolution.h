// What makers of convolutions are given, and what follows a plan of cuDNN's.
#pragma once

#include <functional>
#include <string>

#include "executors/cudnn/kernel.h"
#include "executors/cudnn/tensor_order.h"
#include "ops/convolution/window.h"

namespace halfstep::cudnn {

/// Shapes are those of X, W and Y in the forward pass.
struct ConvolutionProblem {
  DType dtype;
  Shape x, w, y;
  ops::Window window;
};
ConvolutionProblem convolution_problem(const Node& node, DType dtype, const Shape& x, const Shape& w, const Shape& y);

/// A transposed convolution is the input's gradient of the convolution that leads back, which is put into `problem`.
/// Why it is not; empty when it is.
std::string transposed_problem(KernelContext& context, ConvolutionProblem& problem);

/// Launches what follows the convolution proper, given where its result lies; empty when nothing follows.
using AfterConvolution = std::function<void(const Launch&, const void*)>;
/// Bias, addition and activation of the node's, and the conversion to its result's type, of tensors in that order.
AfterConvolution epilogue_of_convolution(KernelContext& context, TensorOrder order);
/// Output 0 in f32 from `elements` of a half type.
AfterConvolution widened(DType from, std::int64_t elements);

/// Bytes that a result takes in scratch, before the workspace, which stays aligned.
std::size_t staged_bytes(DType dtype, const Shape& shape);

}  // namespace halfstep::cudnn
