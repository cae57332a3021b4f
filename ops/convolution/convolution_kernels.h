// Reference kernels of convolutions, and the convolution whose gradient is ConvTranspose.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

/// Conv, and FusedConv (which has an additional input and additional attributes).
void conv_kernel(KernelCall& call);
void conv_grad_input_kernel(KernelCall& call);
void conv_grad_weight_kernel(KernelCall& call);
void conv_transpose_kernel(KernelCall& call);

/// Throws Error unless w [M, C/group, K1, ...] are weights for a convolution of x [N, C, D1, ...], with a window that
/// fits.
void check_convolution(const Attributes& attributes, const Shape& x, const Shape& w);

/// The same, and checks that dy has the shape of its result.
void check_convolution_gradient(const Attributes& attributes, const Shape& x, const Shape& w, const Shape& dy);

/// The convolution corresponding to ConvTranspose's attributes, whose gradient it is: from its output back to its
/// input.
struct Transposition {
  Shape output;
  std::vector<std::int64_t> pads;
  /// Extents of the part of the output that the convolution reads, along its spatial axes: those of the output, or less
  /// if output_padding or output_shape add a whole stride that no element of the input reaches.
  std::vector<std::int64_t> reached;
};

/// For a ConvTranspose of x with w. Throws Error(input) if attributes and shapes do not fit.
Transposition transposition_of(const Attributes& attributes, const Shape& x, const Shape& w);
/// Those attributes of a convolution that its gradients and its transposition share.
Attributes common_attributes(const Attributes& attributes);
/// The attributes of the convolution whose gradient is ConvTranspose.
Attributes transposed_attributes(const Attributes& attributes, const Transposition& t);

}  // namespace halfstep::ops
