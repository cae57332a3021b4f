// Depthwise convolution and the gradient of its weights, in f32, on channels that lie together in memory.
#pragma once

#include <array>
#include <cstdint>

namespace halfstep::simd {

/// Images [N, B, H, W, T] and weights [B, KH, KW, T] hold channels in B blocks of T: T is the number of channels for
/// NHWC (with one block), and 8 or 16 for NCHW in blocks, where the last block may be filled up with zeros.
struct DepthwiseShape {
  using Pair = std::array<std::int64_t, 2>;  ///< of rows, of columns

  std::int64_t images = 0, channels = 0, together = 0;
  Pair in{}, out{}, kernel{}, strides{}, dilations{}, pads{};  ///< `pads` at the begin; dilation 1 leaves nothing out
  bool relu = false;                                           ///< y = max(y, 0)

  std::int64_t blocks() const { return (channels + together - 1) / together; }
  std::int64_t stored_channels() const { return blocks() * together; }
  std::int64_t taps() const { return kernel[0] * kernel[1]; }
  std::int64_t multiplications() const { return images * stored_channels() * out[0] * out[1] * taps(); }
};

/// Results do not depend on the number of threads.
class DepthwiseKernel {
 public:
  struct Functions {
    /// One row of one block of one image.
    void (*forward)(const DepthwiseShape& shape, const float* x, const float* weights, const float* bias,
                    const float* residual, float* y, std::int64_t image, std::int64_t block, std::int64_t row);
    /// One tap of one block's kernel; tap -1: the bias.
    void (*gradient)(const DepthwiseShape& shape, const float* dy, const float* x, float* result, std::int64_t block,
                     std::int64_t tap);
  };

  DepthwiseKernel(Functions functions, DepthwiseShape shape) : functions_(functions), shape_(shape) {}

  /// y = x * weights + bias [channels] + residual (like y), both of which may be null.
  void forward(const float* x, const float* weights, const float* bias, const float* residual, float* y) const;
  /// dw like the weights; db [channels] may be null.
  void gradient(const float* dy, const float* x, float* dw, float* db) const;

 private:
  Functions functions_;
  DepthwiseShape shape_;
};

DepthwiseKernel find_depthwise(const DepthwiseShape& shape);

}  // namespace halfstep::simd
