// The sliding window of convolutions and poolings: pads, auto_pad, ceil_mode, dilations, for up to three spatial axes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/attribute.h>
#include <halfstep/graph/shape.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// Geometry for three spatial axes; an operator with fewer has leading axes of extent 1.
struct Window {
  using Axes = std::array<std::int64_t, 3>;
  Axes input{1, 1, 1}, output{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1};
  Axes pad_begin{0, 0, 0}, pad_end{0, 0, 0};

  std::int64_t input_count() const { return input[0] * input[1] * input[2]; }
  std::int64_t output_count() const { return output[0] * output[1] * output[2]; }
  std::int64_t kernel_count() const { return kernel[0] * kernel[1] * kernel[2]; }

  /// Position along `axis` of the input that tap `k` of output position `o` reads; positions outside [0, input) are
  /// padding.
  std::int64_t position(std::size_t axis, std::int64_t o, std::int64_t k) const {
    return o * stride[axis] + k * dilation[axis] - pad_begin[axis];
  }
};

/// The window of a node with these spatial extents of input and kernel, from the attributes auto_pad, ceil_mode,
/// dilations, pads and strides as defined by ONNX. The output's extents are those of ONNX's shape inference. Throws
/// Error for more than three spatial axes and for attributes of the wrong length or sign.
Window make_window(const Attributes& attributes, std::span<const std::int64_t> input,
                   std::span<const std::int64_t> kernel);

/// An attribute with `length` values, each at least `least` and such that products of two fit 63 bits; all `fallback`
/// if it is absent. Throws Error for others.
std::vector<std::int64_t> window_ints(const Attributes& attributes, std::string_view name, std::size_t length,
                                      std::int64_t fallback, std::int64_t least);

/// Throws Error if the attribute kernel_shape is set to another shape.
void check_kernel_shape(const Attributes& attributes, std::span<const std::int64_t> kernel);

/// The pads, begins before ends, resulting from auto_pad and pads. Throws Error as check_kernel_shape does, and for a
/// ceil_mode other than 0 and 1.
std::vector<std::int64_t> explicit_pads(const Attributes& attributes, std::span<const std::int64_t> input,
                                        std::span<const std::int64_t> kernel);

/// The spatial extents of a shape [N, C, D1, ...], which must outlive them. Throws Error for a rank below 2.
std::span<const std::int64_t> spatial(const Shape& shape);
std::span<const std::int64_t> spatial(Shape&& shape) = delete;

/// [first, last), a range of positions in a row.
struct Run {
  std::int64_t first, last;
};

/// Number of taps of output position `o` along `axis` before position `end` of the input.
inline std::int64_t taps_before(const Window& w, std::size_t axis, std::int64_t o, std::int64_t end) {
  const std::int64_t start = w.position(axis, o, 0);
  return start < end ? std::min((end - 1 - start) / w.dilation[axis] + 1, w.kernel[axis]) : 0;
}

/// The taps of output position `o` along `axis` inside of the input. A kernel may be much longer.
inline Run taps_inside(const Window& w, std::size_t axis, std::int64_t o) {
  return {taps_before(w, axis, o, 0), taps_before(w, axis, o, w.input[axis])};
}

/// Calls `tap(offset)` for every element of an input plane (row-major offset in it) that output position (o0, o1, o2)
/// reads, in row-major order, without padding.
template <class F>
void for_each_tap(const Window& w, std::int64_t o0, std::int64_t o1, std::int64_t o2, F&& tap) {
  const Run run0 = taps_inside(w, 0, o0), run1 = taps_inside(w, 1, o1), run2 = taps_inside(w, 2, o2);
  for (std::int64_t k0 = run0.first; k0 < run0.last; ++k0)
    for (std::int64_t k1 = run1.first; k1 < run1.last; ++k1) {
      const std::int64_t row = (w.position(0, o0, k0) * w.input[1] + w.position(1, o1, k1)) * w.input[2];
      for (std::int64_t k2 = run2.first; k2 < run2.last; ++k2) tap(row + w.position(2, o2, k2));
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

/// The output positions along `axis` whose tap `k` is inside of the input.
inline Run run_inside(const Window& w, std::size_t axis, std::int64_t k) {
  const std::int64_t shift = w.pad_begin[axis] - k * w.dilation[axis];  // input position = o * stride - shift
  const std::int64_t stride = w.stride[axis];
  const std::int64_t first = shift > 0 ? (shift + stride - 1) / stride : 0;
  const std::int64_t end = w.input[axis] + shift;  // o * stride must stay below this
  const std::int64_t last = end > 0 ? (end + stride - 1) / stride : 0;
  return {std::min(first, w.output[axis]), std::min(last, w.output[axis])};
}

}  // namespace ops
}  // namespace halfstep
