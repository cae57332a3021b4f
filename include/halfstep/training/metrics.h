// Metrics over a data set, accumulated batch by batch on the host.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/tensor.h>
#include <halfstep/ops/losses/loss_def.h>
#include <halfstep/training/label_reading.h>
#include <halfstep/training/running_auc.h>

namespace HALFSTEP_API halfstep {

/// Weighted mean, such as that of a loss over batches of different sizes.
class RunningMean {
 public:
  void add(double value, double weight) {
    if (weight == 0) return;
    sum_ += value * weight;
    weight_ += weight;
  }
  /// NaN before the first `add`.
  double value() const {
    const double mean = sum_ / weight_;
    return std::isnan(mean) ? std::numeric_limits<double>::quiet_NaN() : mean;  // whose sign is not shown
  }
  double sum() const { return sum_; }
  double weight() const { return weight_; }
  static RunningMean of(double sum, double weight) {
    RunningMean mean;
    mean.sum_ = sum;
    mean.weight_ = weight;
    return mean;
  }
  void reset() { *this = RunningMean(); }

 private:
  double sum_ = 0, weight_ = 0;
};

struct MetricDef;

/// A row of the table (metric_def.h) with its arguments.
struct Metric {
  const MetricDef* row;
  std::int64_t number = 0;  ///< the value of the row's `number`: k of top_k; the class of f1, or -1
  std::string of = {};      ///< the output that it is computed from, if there are several losses

  /// The text for `parse_metrics`: "accuracy", "top_k:5", "f1", "f1:2", "boxes.mae".
  std::string name() const;
  bool operator==(const Metric&) const = default;
};

/// A confusion matrix: the number of points, or the sum of their weights, for each label and predicted class.
struct ClassTable {
  std::int64_t classes = 0;
  /// A row for each label: a count for each class, then the count of NaN outputs.
  std::vector<double> counts;

  double at(std::int64_t label, std::int64_t output) const { return counts[label * (classes + 1) + output]; }
};

/// The forms that `parse_metrics` accepts: "accuracy, top_k[:K], …".
std::string metric_forms();
/// The same, a line for each with its meaning.
std::string describe_metrics();

/// Parses "accuracy,top_k:5,mean_iou,mae,mse" ("top_k" alone is top_k:5; an empty text means no metrics), each with
/// the prefix "OUTPUT." if there are several losses. Throws Error(input) for an unknown or repeated name and an
/// invalid number.
std::vector<Metric> parse_metrics(std::string_view text);

/// The default metrics for a loss and an interpretation of labels.
std::vector<Metric> default_metrics(const LossDef& loss, const LabelReading& reading);

/// Throws Error(input) naming the first metric that cannot be computed from labels with this interpretation and an
/// output with this number of classes. `found` describes them.
void check_metrics(const std::vector<Metric>& metrics, const LabelReading& reading, std::int64_t classes,
                   const std::string& found);
/// Throws Error(input) naming the first metric that is a table.
void check_are_numbers(const std::vector<Metric>& metrics);

/// Running values of metrics.
class Metrics {
 public:
  explicit Metrics(std::vector<Metric> metrics = {}, LabelReading reading = {});
  /// Adds metrics of another term of the loss. Its index for `add` is the next number.
  void add_term(std::vector<Metric> metrics, LabelReading reading);

  /// Adds one batch of a term: an output of f16, bf16, f32 or f64, and labels that match the LabelReading, up to axes
  /// of extent 1. A NaN output matches no label. `weights` (f32) has one weight per row or per point. Allocates nothing
  /// after the first call, except for auc, which keeps all outputs. Throws Error(input) if labels, output and weights
  /// do not fit or a class index is outside of [0, C) and not ignored.
  void add(const Tensor& output, const Tensor& labels, std::size_t term = 0, const Tensor* weights = nullptr);

  std::size_t size() const { return metrics_.size(); }
  const Metric& metric(std::size_t i) const { return metrics_[i]; }
  /// NaN before the first label that is not ignored, and for a table.
  double value(std::size_t i) const;
  /// Null for a scalar metric; a table of 0 classes before the first batch.
  const ClassTable* table(std::size_t i) const;
  void reset();

  /// The sums of the scalar metrics by name, from which `load_state` continues.
  NamedTensors state() const;
  /// Metrics missing in `state` start from zero. Throws Error(input) for an invalid state.
  void load_state(const NamedTensors& state);
  /// Adds the sums of other Metrics, over other batches.
  void add_state(const NamedTensors& state);

  /// The sums of a metric.
  struct Tally {
    double sum = 0, weight = 0;
    std::vector<double> hits, labels, outputs, weights;  ///< by class, or what else a metric tells apart
    ClassTable table;
    RunningAuc auc;
  };

 private:
  std::vector<Metric> metrics_;
  std::vector<std::size_t> terms_;  // of each metric
  std::vector<LabelReading> readings_;
  std::vector<Tally> tallies_;
};

}  // namespace halfstep
