// Metrics over a data set, summed batch by batch on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/tensor.h"

namespace halfstep {

/// Mean of values that each stand for `weight` rows: a loss over batches of different size.
class RunningMean {
 public:
  void add(double value, double weight) {
    sum_ += value * weight;
    weight_ += weight;
  }
  /// NaN before the first `add`.
  double value() const { return sum_ / weight_; }
  void reset() { *this = RunningMean(); }

 private:
  double sum_ = 0, weight_ = 0;
};

struct Metric {
  enum class Kind {
    accuracy,  ///< share of rows whose largest output is at the label; of equal outputs the first counts as the largest
    top_k,  ///< share of rows whose label is among the k largest outputs; of equal outputs the first counts as larger
    mae,    ///< mean |output − target| over all elements
    mse,    ///< mean (output − target)² over all elements
  };
  Kind kind = Kind::accuracy;
  std::int64_t k = 0;  ///< top_k only

  /// As `parse_metrics` takes it: "accuracy", "top_k:5", "mae", "mse".
  std::string name() const;
  bool operator==(const Metric&) const = default;
};

/// Reads "accuracy,top_k:5,mae,mse" ("top_k" alone is top_k:5; an empty text is no metric). Throws Error(input) for an
/// unknown or repeated name and a bad k.
std::vector<Metric> parse_metrics(std::string_view text);

/// Running values of some metrics. `add` allocates nothing.
class Metrics {
 public:
  /// Outputs above `binary_threshold` are class 1 where a row has a single output: 0.5 for probabilities, 0 for logits.
  explicit Metrics(std::vector<Metric> metrics, double binary_threshold = 0.5);

  /// One batch. `output` is [N, …, C] of f16, bf16, f32 or f64, classes last. For accuracy and top_k, `labels` holds
  /// class indices (integers, one per row of C outputs) or one-hot rows (the shape of `output`; the largest is the
  /// label); for a single output per row (C = 1, or rank 1), accuracy takes labels of 0 and 1. For mae and mse,
  /// `labels` are targets, as many as outputs. An output that is NaN hits no label. Throws Error(input) when the shapes
  /// do not fit or a class index is outside of [0, C).
  void add(const Tensor& output, const Tensor& labels);

  std::size_t size() const { return metrics_.size(); }
  const Metric& metric(std::size_t i) const { return metrics_[i]; }
  /// NaN before the first `add`.
  double value(std::size_t i) const { return means_[i].value(); }
  void reset();

 private:
  std::vector<Metric> metrics_;
  std::vector<RunningMean> means_;
  double binary_threshold_;
};

}  // namespace halfstep
