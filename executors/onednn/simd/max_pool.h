// Maximum pooling and its gradient, on channels that lie together in memory. oneDNN's skips NaN.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// Images [P, D, H, W, T] hold channels in groups of T: P is images times groups, T all channels for NHWC, 8 or 16 for
/// NCHW in blocks, 1 for NCHW. Fewer than three spatial axes are preceded by axes of extent, kernel and stride 1.
struct MaxPoolShape {
  using Axes = std::array<std::int64_t, 3>;

  std::int64_t planes = 0, together = 0;
  Axes in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, strides{1, 1, 1};
  Axes dilations{1, 1, 1};  ///< 1 leaves nothing out
  Axes pads{};              ///< at the begin

  std::int64_t in_count() const { return in[0] * in[1] * in[2]; }
  std::int64_t out_count() const { return out[0] * out[1] * out[2]; }
  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  /// Whether two windows may look at the same element.
  bool overlaps() const;
  /// Whether some window looks at every element.
  bool covers() const;
};

/// The place of a window's maximum is its tap, in row-major order: one byte each where there are at most 256 taps, else
/// four. The first of several wins, and so does the first NaN. Results do not depend on the number of threads.
struct MaxPoolKernel {
  struct Functions {
    /// One row of outputs of one plane. `places` may be null.
    void (*forward)(const MaxPoolShape& shape, const void* x, void* y, void* places, std::int64_t plane,
                    std::int64_t row) = nullptr;
    /// Channels [first, first + count) of one plane.
    void (*gradient)(const MaxPoolShape& shape, const void* dy, const void* places, void* dx, std::int64_t plane,
                     std::int64_t first, std::int64_t count) = nullptr;
  };

  explicit operator bool() const { return functions.forward != nullptr; }
  std::size_t places_bytes() const;
  void forward(const void* x, void* y, void* places) const;
  /// Where windows overlap, half types would round each sum: take f32.
  void gradient(const void* dy, const void* places, void* dx) const;

  Functions functions;
  MaxPoolShape shape;
  std::size_t element_bytes = 0;
};

/// For f32, f16 and bf16; empty for other types. Every axis of the kernel has at most 2^20 taps, and all together less
/// than 2^31.
MaxPoolKernel find_max_pool(const MaxPoolShape& shape, DType dtype);

}  // namespace halfstep::simd
