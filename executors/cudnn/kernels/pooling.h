// Pooling over [planes, spatial..., planes that lie together], one to three spatial axes: every channel is a plane, and
// all channels of an image lie together, or none do. Gradients gather instead of scattering: every element
// of dX looks for the windows it lies in, so that no two threads add to the same place and the order never changes.
#pragma once

#include "executors/cudnn/kernels/scalar.h"

namespace halfstep::cudnn {

/// Geometry, as ops/convolution/window.h defines it. Fewer than three spatial axes are preceded by axes of extent,
/// kernel, stride and dilation 1.
struct Window {
  static constexpr int kAxes = 3;
  std::int64_t in[kAxes], out[kAxes], kernel[kAxes], stride[kAxes], dilation[kAxes], pad_begin[kAxes], pad_end[kAxes];
  std::int64_t together = 1;  ///< planes

  HALFSTEP_HD std::int64_t in_count() const { return in[0] * in[1] * in[2]; }
  HALFSTEP_HD std::int64_t out_count() const { return out[0] * out[1] * out[2]; }

  /// Of element i of tensors whose planes have `count` elements: its place in the plane, and where planes of `other`
  /// elements of the same number begin.
  HALFSTEP_HD std::int64_t place(std::int64_t i, std::int64_t count) const { return i / together % count; }
  HALFSTEP_HD std::int64_t plane(std::int64_t i, std::int64_t count, std::int64_t other) const {
    return i / (together * count) * together * other + i % together;
  }

  /// Calls f(offset within the plane) for every input element of output o's window, in row-major order.
  template <class F>
  HALFSTEP_HD void for_each_in(const std::int64_t (&o)[kAxes], F&& f) const {
    for (std::int64_t a = 0; a < kernel[0]; ++a) {
      const std::int64_t i0 = o[0] * stride[0] - pad_begin[0] + a * dilation[0];
      if (i0 < 0 || i0 >= in[0]) continue;
      for (std::int64_t b = 0; b < kernel[1]; ++b) {
        const std::int64_t i1 = o[1] * stride[1] - pad_begin[1] + b * dilation[1];
        if (i1 < 0 || i1 >= in[1]) continue;
        for (std::int64_t c = 0; c < kernel[2]; ++c) {
          const std::int64_t i2 = o[2] * stride[2] - pad_begin[2] + c * dilation[2];
          if (i2 >= 0 && i2 < in[2]) f((i0 * in[1] + i1) * in[2] + i2);
        }
      }
    }
  }

  /// Calls f(o) for every output whose window holds input element i (an offset within the plane).
  template <class F>
  HALFSTEP_HD void for_each_window_of(std::int64_t i, F&& f) const {
    const std::int64_t at[kAxes] = {i / (in[1] * in[2]), i / in[2] % in[1], i % in[2]};
    std::int64_t first[kAxes], last[kAxes], o[kAxes];
    for (int axis = 0; axis < kAxes; ++axis) windows_near(axis, at[axis], first[axis], last[axis]);
    for (o[0] = last[0]; o[0] >= first[0]; --o[0]) {
      if (!is_in_window(0, at[0], o[0])) continue;
      for (o[1] = last[1]; o[1] >= first[1]; --o[1]) {
        if (!is_in_window(1, at[1], o[1])) continue;
        for (o[2] = last[2]; o[2] >= first[2]; --o[2])
          if (is_in_window(2, at[2], o[2])) f(o);
      }
    }
  }

  HALFSTEP_HD void output_at(std::int64_t offset, std::int64_t (&o)[kAxes]) const {
    o[0] = offset / (out[1] * out[2]);
    o[1] = offset / out[2] % out[1];
    o[2] = offset % out[2];
  }
  HALFSTEP_HD std::int64_t output_offset(const std::int64_t (&o)[kAxes]) const {
    return (o[0] * out[1] + o[1]) * out[2] + o[2];
  }

  /// Elements the average over output o's window is divided by: those inside the input, or inside the padded input.
  HALFSTEP_HD float divisor(const std::int64_t (&o)[kAxes], bool include_pad) const {
    std::int64_t count = 1;
    for (int axis = 0; axis < kAxes; ++axis) {
      const std::int64_t low = include_pad ? -pad_begin[axis] : 0;
      const std::int64_t high = include_pad ? in[axis] + pad_end[axis] : in[axis];
      std::int64_t inside = 0;
      for (std::int64_t k = 0; k < kernel[axis]; ++k) {
        const std::int64_t i = o[axis] * stride[axis] - pad_begin[axis] + k * dilation[axis];
        inside += i >= low && i < high;
      }
      count *= inside;
    }
    return static_cast<float>(count);
  }

 private:
  /// The outputs along `axis` whose windows begin before the input element `at` and end behind it.
  HALFSTEP_HD void windows_near(int axis, std::int64_t at, std::int64_t& first, std::int64_t& last) const {
    const std::int64_t padded = at + pad_begin[axis], before = padded - (kernel[axis] - 1) * dilation[axis];
    first = before <= 0 ? 0 : (before + stride[axis] - 1) / stride[axis];
    last = padded / stride[axis];
    if (last >= out[axis]) last = out[axis] - 1;
  }
  /// Whether the window of one of them has the element: it may be between two that a dilation parts.
  HALFSTEP_HD bool is_in_window(int axis, std::int64_t at, std::int64_t o) const {
    return dilation[axis] == 1 || (at + pad_begin[axis] - o * stride[axis]) % dilation[axis] == 0;
  }
};

/// The first maximum of a window in row-major order; NaN is larger than everything.
template <class T>
struct FirstMaximum {
  const T* plane;
  std::int64_t together;
  std::int64_t at = -1;
  float value = 0;

  HALFSTEP_HD void operator()(std::int64_t i) {
    const float v = load(plane[i * together]);
    if (at < 0 || v > value || (v != v && value == value)) {
      at = i;
      value = v;
    }
  }
};

/// `indices`, which may be null: the number of each maximum, where planes are counted row-major.
template <class T>
struct MaxPool {
  const T* x;
  T* y;
  std::int64_t* indices;
  Window window;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    std::int64_t o[Window::kAxes];
    window.output_at(window.place(i, window.out_count()), o);
    FirstMaximum<T> first{x + window.plane(i, window.out_count(), window.in_count()), window.together};
    window.for_each_in(o, first);
    y[i] = round_to<T>(first.at < 0 ? -HUGE_VALF : first.value);
    if (!indices) return;
    const std::int64_t plane = window.plane(i, window.out_count(), 1);
    indices[i] = first.at < 0 ? first.at : plane * window.in_count() + first.at;
  }
};

/// The first maximum of each window takes the whole gradient.
template <class T>
struct MaxPoolGrad {
  const T* dy;
  const T* x;
  T* dx;
  Window window;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    const std::int64_t here = window.place(i, window.in_count());
    const T* dy_plane = dy + window.plane(i, window.in_count(), window.out_count());
    const T* x_plane = x + window.plane(i, window.in_count(), window.in_count());
    float sum = 0;
    window.for_each_window_of(here, [&](const std::int64_t(&o)[Window::kAxes]) {
      FirstMaximum<T> first{x_plane, window.together};
      window.for_each_in(o, first);
      if (first.at == here) sum += load(dy_plane[window.output_offset(o) * window.together]);
    });
    dx[i] = round_to<T>(sum);
  }
};

template <class T>
struct AveragePool {
  const T* x;
  T* y;
  Window window;
  bool include_pad;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    std::int64_t o[Window::kAxes];
    window.output_at(window.place(i, window.out_count()), o);
    const T* plane = x + window.plane(i, window.out_count(), window.in_count());
    float sum = 0;
    window.for_each_in(o, [&](std::int64_t k) { sum += load(plane[k * window.together]); });
    const float count = window.divisor(o, include_pad);
    y[i] = round_to<T>(count == 0 ? 0.0f : sum / count);
  }
};

template <class T>
struct AveragePoolGrad {
  const T* dy;
  T* dx;
  Window window;
  bool include_pad;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    const T* plane = dy + window.plane(i, window.in_count(), window.out_count());
    float sum = 0;
    // Never divided by zero: the window of o holds element i.
    window.for_each_window_of(window.place(i, window.in_count()), [&](const std::int64_t(&o)[Window::kAxes]) {
      sum += load(plane[window.output_offset(o) * window.together]) / window.divisor(o, include_pad);
    });
    dx[i] = round_to<T>(sum);
  }
};

}  // namespace halfstep::cudnn
