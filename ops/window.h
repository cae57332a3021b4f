// The sliding window of convolutions and poolings: pads, auto_pad, ceil_mode, dilations, in up to three spatial axes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "graph/attribute.h"
#include "graph/shape.h"

namespace halfstep::ops {

/// Geometry along three spatial axes; an operator of fewer has leading axes of extent 1.
struct Window {
  using Axes = std::array<std::int64_t, 3>;
  Axes input{1, 1, 1}, output{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1};
  Axes pad_begin{0, 0, 0}, pad_end{0, 0, 0};

  std::int64_t input_count() const { return input[0] * input[1] * input[2]; }
  std::int64_t output_count() const { return output[0] * output[1] * output[2]; }
  std::int64_t kernel_count() const { return kernel[0] * kernel[1] * kernel[2]; }

  /// Position along `axis` of the input that tap `k` of output position `o` reads; outside [0, input) it is padding.
  std::int64_t position(std::size_t axis, std::int64_t o, std::int64_t k) const {
    return o * stride[axis] + k * dilation[axis] - pad_begin[axis];
  }
};

/// The window of a node whose input and kernel have these spatial extents, from the attributes auto_pad, ceil_mode,
/// dilations, pads and strides as ONNX defines them. The output's extents are those of ONNX's shape inference.
/// Throws Error for more than three spatial axes and for attributes of the wrong length or sign.
Window make_window(const Attributes& attributes, std::span<const std::int64_t> input,
                   std::span<const std::int64_t> kernel);

/// Throws Error when the attribute kernel_shape is there and says otherwise.
void check_kernel_shape(const Attributes& attributes, std::span<const std::int64_t> kernel);

/// The pads, begins before ends, that auto_pad and pads stand for. Throws Error as check_kernel_shape does,
/// and for a ceil_mode other than 0 and 1.
std::vector<std::int64_t> explicit_pads(const Attributes& attributes, std::span<const std::int64_t> input,
                                        std::span<const std::int64_t> kernel);

/// The spatial extents of a shape [N, C, D1, ...], which must outlive them. Throws Error for a rank below 2.
std::span<const std::int64_t> spatial(const Shape& shape);
std::span<const std::int64_t> spatial(Shape&& shape) = delete;

/// Calls `tap(offset)` for every element of an input plane (row-major offset into it) that output position (o0, o1, o2)
/// looks at, row-major, padding left out.
template <class F>
void for_each_tap(const Window& w, std::int64_t o0, std::int64_t o1, std::int64_t o2, F&& tap) {
  for (std::int64_t k0 = 0; k0 < w.kernel[0]; ++k0) {
    const std::int64_t i0 = w.position(0, o0, k0);
    if (i0 < 0 || i0 >= w.input[0]) continue;
    for (std::int64_t k1 = 0; k1 < w.kernel[1]; ++k1) {
      const std::int64_t i1 = w.position(1, o1, k1);
      if (i1 < 0 || i1 >= w.input[1]) continue;
      for (std::int64_t k2 = 0; k2 < w.kernel[2]; ++k2) {
        const std::int64_t i2 = w.position(2, o2, k2);
        if (i2 >= 0 && i2 < w.input[2]) tap((i0 * w.input[1] + i1) * w.input[2] + i2);
      }
    }
  }
}

/// Calls `at(offset, o0, o1, o2)` for every position of an output plane, row-major.
template <class F>
void for_each_output(const Window& w, F&& at) {
  std::int64_t offset = 0;
  for (std::int64_t o0 = 0; o0 < w.output[0]; ++o0)
    for (std::int64_t o1 = 0; o1 < w.output[1]; ++o1)
      for (std::int64_t o2 = 0; o2 < w.output[2]; ++o2) at(offset++, o0, o1, o2);
}

/// The output positions along `axis` whose tap `k` lies inside the input: [first, last).
struct Run {
  std::int64_t first, last;
};
inline Run run_inside(const Window& w, std::size_t axis, std::int64_t k) {
  const std::int64_t shift = w.pad_begin[axis] - k * w.dilation[axis];  // input position = o * stride - shift
  const std::int64_t stride = w.stride[axis];
  const std::int64_t first = shift > 0 ? (shift + stride - 1) / stride : 0;
  const std::int64_t end = w.input[axis] + shift;  // o * stride must stay below this
  const std::int64_t last = end > 0 ? (end + stride - 1) / stride : 0;
  return {std::min(first, w.output[axis]), std::min(last, w.output[axis])};
}

}  // namespace halfstep::ops
