// Layer normalization of rows, forward and backward; f32, f16, bf16 with f32 statistics.
#pragma once

#include <cstddef>
#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

struct LayerNormParams {
  std::int64_t rows = 0;
  std::int64_t n = 0;  ///< elements a row
  float epsilon = 1e-5F;
};

/// y = (x - mean) / sqrt(var + epsilon) * scale + bias with the row's mean and biased variance.
/// x, scale [n], bias [n] or null, y of one type; mean [rows] and inv_std [rows] f32, either may be null.
struct LayerNormKernel {
  using Fn = void (*)(const LayerNormParams& params, const void* x, const void* scale, const void* bias, void* y,
                      float* mean, float* inv_std, std::int64_t begin, std::int64_t end);

  explicit operator bool() const { return fn != nullptr; }
  void operator()(const void* x, const void* scale, const void* bias, void* y, float* mean, float* inv_std) const;

  Fn fn = nullptr;
  LayerNormParams params;
  std::size_t element_bytes = 0;
};

/// From dy, x, scale, mean, inv_std: dx [rows, n] of their type, dscale [n] and dbias [n] in f32 (either may be null).
struct LayerNormGradKernel {
  using Fn = void (*)(const LayerNormParams& params, const void* dy, const void* x, const void* scale,
                      const float* mean, const float* inv_std, void* dx, float* dscale, float* dbias,
                      std::int64_t begin, std::int64_t end);

  explicit operator bool() const { return fn != nullptr; }
  /// Partial sums of dscale and dbias; aligned to 64.
  std::size_t scratch_bytes() const;
  void operator()(const void* dy, const void* x, const void* scale, const float* mean, const float* inv_std, void* dx,
                  float* dscale, float* dbias, void* scratch) const;

  Fn fn = nullptr;
  LayerNormParams params;
  std::size_t element_bytes = 0;
};

/// Empty unless dtype is f32, f16 or bf16.
LayerNormKernel find_layer_norm(const LayerNormParams& params, DType dtype);
LayerNormGradKernel find_layer_norm_grad(const LayerNormParams& params, DType dtype);

}  // namespace halfstep::simd
