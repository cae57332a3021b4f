// Reference kernels of convolutions, and what ConvTranspose is the gradient of.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

/// Conv, and FusedConv (whose further input and attributes Conv does not have).
void conv_kernel(KernelCall& call);
void conv_grad_input_kernel(KernelCall& call);
void conv_grad_weight_kernel(KernelCall& call);
void conv_transpose_kernel(KernelCall& call);

/// Throws Error unless w [M, C/group, K1, ...] are weights for a convolution of x [N, C, D1, ...], whose window fits.
void check_convolution(const Attributes& attributes, const Shape& x, const Shape& w);

/// The same, and that dy has the shape of its result.
void check_convolution_gradient(const Attributes& attributes, const Shape& x, const Shape& w, const Shape& dy);

/// What ConvTranspose's attributes come to: the convolution it is the gradient of, which goes from its output back to
/// its input.
struct Transposition {
  Shape output;
  std::vector<std::int64_t> pads;
  /// Extents of the output along its spatial axes that the convolution may see: those of the output, or less where
  /// output_padding or output_shape leave a whole stride that no element of the input reaches.
  std::vector<std::int64_t> reached;
};

/// Of a ConvTranspose of x with w. Throws Error(input) where attributes and shapes do not fit.
Transposition transposition_of(const Attributes& attributes, const Shape& x, const Shape& w);
/// The attributes of the convolution that ConvTranspose is the gradient of.
Attributes transposed_attributes(const Attributes& attributes, const Transposition& t);

}  // namespace halfstep::ops
