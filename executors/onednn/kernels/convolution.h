// What the convolution and its two gradients share.
#pragma once

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/window.h"
#include "ops/epilogue.h"

namespace halfstep::onednn {

/// Extents of a convolution; weights have a leading axis of groups when there is more than one.
struct Convolution {
  Dims source, weights, destination;
  std::int64_t channels_out = 0;
  DnnlWindow window;
};

/// Throws Error where the weights do not fit the input.
Convolution make_convolution_extents(const Attributes& attributes, const Shape& input, const Shape& weights,
                                     const Shape& output);

/// oneDNN convolutions have one to three spatial axes.
inline bool has_dnnl_rank(const Shape& input) { return input.rank() >= 3 && input.rank() <= 5; }

/// The forward descriptor that gradients take as a hint. Layouts are left to oneDNN; empty when it refuses the type.
dnnl::convolution_forward::primitive_desc describe_convolution(const Convolution& c, dnnl::prop_kind kind, DType dtype,
                                                               DType bias, DType out, const dnnl::primitive_attr& attr);

/// Whether every channel has a kernel of its own, over one or two axes.
bool is_depthwise(const Convolution& c);
/// Own kernels for depthwise convolutions: Conv and FusedConv, and the gradient of the weights with that of the bias
/// when `bias_gradient` is a value.
Made make_depthwise_convolution(KernelContext& context, const Convolution& c, const ops::Epilogue& last);
Made make_depthwise_grad_weight(KernelContext& context, const Convolution& c, ValueId bias_gradient);
/// Whether this is a depthwise convolution that oneDNN would do channel by channel.
template <class Pd>
bool lacks_depthwise_kernel(const Convolution& c, const Chosen<Pd>& chosen) {
  return is_depthwise(c) && chosen &&
         (is_slow(chosen.pd) || std::string_view(chosen.pd.impl_info_str()).find("gemm") != std::string_view::npos);
}

}  // namespace halfstep::onednn
