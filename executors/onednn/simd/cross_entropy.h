// ONNX SoftmaxCrossEntropyLoss over rows of logits, and its gradient.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

enum class LossReduction { none, mean, sum };

struct CrossEntropyParams {
  std::int64_t rows = 0;
  std::int64_t classes = 0;
  LossReduction reduction = LossReduction::mean;
  /// Rows with this label count neither in the loss nor in the mean, and get a zero gradient.
  std::optional<std::int64_t> ignore_index;
};

/// logits [rows, classes] of one float type, labels [rows] i32 or i64, weights [classes] of that type or nullptr
/// -> loss (one element; [rows] without reduction) and log_prob [rows, classes], both of that type.
/// The mean divides by the sum of the weights of the counted labels; it is 0 when no row counts. A label outside
/// of [0, classes) that is not ignored gives a NaN loss and reads nothing. `log_prob` may be nullptr when nobody wants
/// it, `logits` may be `log_prob`.
struct CrossEntropyKernel {
  using Fn = void (*)(const CrossEntropyParams& params, const void* logits, const void* labels, const void* weights,
                      void* log_prob, float* losses, std::int64_t begin, std::int64_t end);

  explicit operator bool() const { return fn != nullptr; }
  /// Two floats a row.
  std::size_t scratch_bytes() const { return static_cast<std::size_t>(params.rows) * 2 * sizeof(float); }
  void operator()(const void* logits, const void* labels, const void* weights, void* loss, void* log_prob,
                  void* scratch) const;

  Fn fn = nullptr;
  CrossEntropyParams params;
  DType dtype = DType::undefined;
};

/// dlogits = dloss * weight[label] * (exp(log_prob) - onehot(label)), divided by the sum of weights for the mean.
/// dloss: one element, or [rows] without reduction; f32 or the type of log_prob. A row whose label is out of range gets
/// NaN.
struct CrossEntropyGradKernel {
  using Fn = void (*)(const CrossEntropyParams& params, const void* log_prob, const void* labels,
                      const float* row_factors, void* dlogits, std::int64_t begin, std::int64_t end);

  explicit operator bool() const { return fn != nullptr; }
  /// One float a row.
  std::size_t scratch_bytes() const { return static_cast<std::size_t>(params.rows) * sizeof(float); }
  void operator()(const void* dloss, const void* log_prob, const void* labels, const void* weights, void* dlogits,
                  void* scratch) const;

  Fn fn = nullptr;
  CrossEntropyParams params;
  DType dtype = DType::undefined, label_type = DType::undefined, dloss_type = DType::undefined;
};

/// Empty unless dtype is f32, f16 or bf16 and label is i32 or i64 (and dloss is f32 or dtype).
CrossEntropyKernel find_cross_entropy(const CrossEntropyParams& params, DType dtype, DType label);
CrossEntropyGradKernel find_cross_entropy_grad(const CrossEntropyParams& params, DType dtype, DType label, DType dloss);

}  // namespace halfstep::simd
