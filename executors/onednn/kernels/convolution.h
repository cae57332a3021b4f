// What the convolution and its two gradients share.
#pragma once

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/window.h"

namespace halfstep::onednn {

/// Extents of a convolution; weights have a leading axis of groups when there is more than one.
struct Convolution {
  Dims source, weights, destination;
  std::int64_t channels_out = 0;
  DnnlWindow window;
};

Convolution make_convolution_extents(const Attributes& attributes, const Shape& input, const Shape& weights,
                                     const Shape& output);

/// oneDNN convolutions have one to three spatial axes.
inline bool has_dnnl_rank(const Shape& input) { return input.rank() >= 3 && input.rank() <= 5; }

/// The forward descriptor that gradients take as a hint. Layouts are left to oneDNN; empty when it refuses the type.
dnnl::convolution_forward::primitive_desc describe_convolution(const Convolution& c, dnnl::prop_kind kind, DType dtype,
                                                               DType bias, DType out, const dnnl::primitive_attr& attr);

}  // namespace halfstep::onednn
