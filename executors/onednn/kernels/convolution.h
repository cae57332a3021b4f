// What the convolution and its two gradients share.
#pragma once

#include <functional>
#include <string>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/measured.h"
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

/// Forward descriptors that gradients were described with.
using Hints = std::vector<dnnl::convolution_forward::primitive_desc>;

/// The forward descriptor that gradients take as a hint. Layouts are left to oneDNN; empty when it refuses the type.
dnnl::convolution_forward::primitive_desc describe_convolution(const Convolution& c, dnnl::prop_kind kind, DType dtype,
                                                               DType bias, DType out, const dnnl::primitive_attr& attr);

/// Whether every channel has a kernel of its own, over one or two axes.
bool is_depthwise(const Convolution& c);
/// Own kernels for depthwise convolutions: Conv and FusedConv, and the gradient of the weights with that of the bias
/// when `bias_gradient` is a value.
Made make_depthwise_convolution(KernelContext& context, const Convolution& c, const ops::Epilogue& last);
Made make_depthwise_grad_weight(KernelContext& context, const Convolution& c, ValueId bias_gradient);
/// Whether their own kernel takes the place of a primitive for a depthwise convolution: oneDNN would do it channel by
/// channel, or measuring says so, which compares it with `other()`.
bool prefers_depthwise_kernel(const Convolution& c, const dnnl::primitive_desc_base& pd, DType dtype,
                              const std::function<std::string()>& key, const std::function<Candidate()>& other);

/// What a convolution is, for a tuner; `name` says which of a node's three kernels, with what follows it.
std::string key_of(const Convolution& c, const std::string& name, DType dtype, DType out);

}  // namespace halfstep::onednn
