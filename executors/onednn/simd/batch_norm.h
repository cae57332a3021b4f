// Batch normalization, optionally with ReLU or Clip, and its gradient, in whichever of the usual layouts the tensor
// lies; f32, f16 and bf16 with f32 statistics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "ops/elementwise/clamp.h"
#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// A tensor in memory [images, groups, positions, lanes]; its channel is group * lanes + lane:
///   NCHW  {N, C, H W, 1}     NHWC  {1, 1, N H W, C}     NCHW in blocks of 16 channels  {N, C / 16 rounded up, H W, 16}
struct BatchNormShape {
  std::int64_t images = 1, groups = 1, positions = 1, lanes = 1;
  std::int64_t channels = 0;  ///< without the padding of the last block

  std::int64_t stored_channels() const { return groups * lanes; }
  std::int64_t per_channel() const { return images * positions; }
  std::int64_t stored() const { return stored_channels() * per_channel(); }
};

/// A piece of the work: channels [lane, lane + width) of a group, at positions [begin, end) counted through all images.
struct BatchNormPart {
  std::int64_t group, lane, width, begin, end;
};

/// Per stored channel, f32. y = (x - mean) * factor + shift, dx = factor * (dy + tilt * (x - mean) + offset); tilt
/// null: 0.
struct BatchNormCoefficients {
  const float *mean, *factor, *shift, *tilt, *offset;
};

/// What each instruction set provides. The sums are those of the part alone.
struct BatchNormFunctions {
  /// Mean, and sum of squared distances from it.
  void (*moments)(const BatchNormShape&, const BatchNormPart&, const void* x, float* mean, float* squares) = nullptr;
  /// y, or `clamp` of it if the functions were found for one. The others then take dy where the clamp passes it, else
  /// 0.
  void (*normalize)(const BatchNormShape&, const BatchNormPart&, const void* x, const BatchNormCoefficients&,
                    const ops::Clamp& clamp, void* y) = nullptr;
  /// Sums of dy, and of dy * (x - mean).
  void (*grad_sums)(const BatchNormShape&, const BatchNormPart&, const void* dy, const void* x,
                    const BatchNormCoefficients&, const ops::Clamp& clamp, float* sums, float* products) = nullptr;
  void (*grad)(const BatchNormShape&, const BatchNormPart&, const void* dy, const void* x, const BatchNormCoefficients&,
               const ops::Clamp& clamp, void* dx) = nullptr;
};

/// Nothing unless dtype is f32, f16 or bf16.
BatchNormFunctions find_batch_norm_functions(DType dtype, bool clamps);

/// Results do not depend on the number of threads. mean and variance are f32 [stored_channels()], scale and shift f32
/// [channels]. Padding of x and dy must be zeros; that of dx becomes zeros, and that of y what the clamp makes of
/// zeros.
class BatchNormKernel {
 public:
  BatchNormKernel() = default;
  BatchNormKernel(BatchNormFunctions functions, BatchNormShape shape, float epsilon, ops::Clamp clamp,
                  std::size_t element_bytes)
      : functions_(functions), shape_(shape), epsilon_(epsilon), clamp_(clamp), element_bytes_(element_bytes) {}
  explicit operator bool() const { return functions_.moments != nullptr; }
  const BatchNormShape& shape() const { return shape_; }
  /// Of every function below; aligned to 64.
  std::size_t scratch_bytes() const;

  /// The mean and the biased variance of every channel.
  void statistics(const void* x, float* mean, float* variance, void* scratch) const;
  /// y = (x - mean) / sqrt(variance + epsilon) * scale + shift, or the clamp of that.
  void normalize(const void* x, const float* mean, const float* variance, const float* scale, const float* shift,
                 void* y, void* scratch) const;
  /// The same by the mean and the variance of x, which it gives as well: faster than both functions above, since some
  /// channels are normalized while they still lie in the cache.
  void normalize_by_own(const void* x, const float* scale, const float* shift, float* mean, float* variance, void* y,
                        void* scratch) const;
  /// dx, dscale and dshift (either of these two may be null). With `own_statistics` mean and variance are those of x.
  /// `shift` is read only by a kernel found with a clamp.
  void gradient(const void* dy, const void* x, const float* mean, const float* variance, const float* scale,
                const float* shift, bool own_statistics, void* dx, float* dscale, float* dshift, void* scratch) const;

 private:
  struct Range;
  /// Calls body(range) for ranges that make up all channels, whose elements of `tensors` tensors are read twice.
  template <class Body>
  void for_ranges_of(std::int64_t tensors, void* scratch, const Body& body) const;
  // The functions above for a range.
  void statistics(const Range& range, const void* x, float* mean, float* variance) const;
  void normalize(const Range& range, const void* x, const float* mean, const float* variance, const float* scale,
                 const float* shift, void* y) const;
  void gradient(const Range& range, const void* dy, const void* x, const float* mean, const float* variance,
                const float* scale, const float* shift, bool own_statistics, void* dx, float* dscale,
                float* dshift) const;
  /// Those of the first pass over the data, in the first arrays of the scratch memory; the others are zeros.
  BatchNormCoefficients coefficients(const Range& range, const float* mean, const float* variance, const float* scale,
                                     const float* shift) const;

  BatchNormFunctions functions_;
  BatchNormShape shape_;
  float epsilon_ = 0;
  ops::Clamp clamp_;
  std::size_t element_bytes_ = 0;
};

/// Empty unless dtype is f32, f16 or bf16.
BatchNormKernel find_batch_norm(const BatchNormShape& shape, float epsilon, const std::optional<ops::Clamp>& clamp,
                                DType dtype);

}  // namespace halfstep::simd
