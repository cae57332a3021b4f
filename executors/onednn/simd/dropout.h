// Dropout with counter-based random numbers (base/philox.h): the mask depends on seed, stream, counter and element
// alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

struct DropoutParams {
  std::int64_t seed = 0;
  std::int64_t stream = 0;
};

/// Element i is kept when u(i) >= ratio, and scaled by 1 / (1 - ratio); u(i) is uniform in [0, 1) from word i % 4 of
/// Philox4x32-10 at counter (i / 4, counter low, counter high, stream) under the key of `seed`.
struct DropoutKernel {
  using Fn = void (*)(const void* x, void* y, bool* mask, std::int64_t begin, std::int64_t end, float ratio,
                      DropoutParams params, std::int64_t counter);

  explicit operator bool() const { return fn != nullptr; }
  /// y may be x. `ratio` in [0, 1]; with 1 nothing is kept. `mask` may be null.
  void operator()(const void* x, void* y, bool* mask, std::int64_t n, float ratio, std::int64_t counter) const;

  Fn fn = nullptr;
  std::size_t element_bytes = 0;
  DropoutParams params;
};

/// y = mask ? x * scale : 0, the gradient of dropout.
struct MaskScaleKernel {
  using Fn = void (*)(const void* x, const bool* mask, void* y, std::int64_t n, float scale);

  explicit operator bool() const { return fn != nullptr; }
  void operator()(const void* x, const bool* mask, void* y, std::int64_t n, float scale) const;

  Fn fn = nullptr;
  std::size_t element_bytes = 0;
};

/// Empty unless dtype is f32, f16 or bf16.
DropoutKernel find_dropout(DType dtype, DropoutParams params);
MaskScaleKernel find_mask_scale(DType dtype);

}  // namespace halfstep::simd
