// Convolutions with kernels of 3 x 3 and 5 x 5 by Winograd's algorithm.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "executors/onednn/kernels/convolution.h"
#include "executors/onednn/simd/winograd.h"

namespace halfstep::onednn {

enum class WinogradPart { forward, input_gradient, weight_gradient };

/// One of a convolution's three kernels, with operands that lie as those of a primitive.
struct WinogradPlan {
  WinogradPart part;
  simd::WinogradShape shape;
  Layout source, weights, destination;
};

/// The plan of what `pd` computes in f32, where it takes the place of that primitive: where its estimated time is less,
/// or measuring says so, which compares it with `other()`.
std::optional<WinogradPlan> plan_winograd(const Convolution& c, WinogradPart part, const dnnl::primitive_desc_base& pd,
                                          DType dtype, const std::function<std::string()>& key,
                                          const std::function<Candidate()>& other);

/// Conv and FusedConv; ConvGradInput; ConvGradWeight, with the gradient of the bias where `bias` is a value.
Made make_winograd_convolution(KernelContext& context, const WinogradPlan& plan, const ops::Epilogue& last);
Made make_winograd_grad_input(KernelContext& context, const WinogradPlan& plan);
Made make_winograd_grad_weight(KernelContext& context, const WinogradPlan& plan, ValueId bias);

}  // namespace halfstep::onednn
