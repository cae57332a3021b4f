// Metrics over a data set, summed batch by batch on the host.
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

/// Mean of values that each stand for `weight` rows: a loss over batches of different size.
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

/// A row of the table (metric_def.h), with what was asked of it.
struct Metric {
  const MetricDef* row;
  std::int64_t number = 0;  ///< what the row's `number` is: k of top_k; f1's class, or -1
  std::string of = {};      ///< the output that it is measured of, where there are several losses

  /// As `parse_metrics` takes it: "accuracy", "top_k:5", "f1", "f1:2", "boxes.mae".
  std::string name() const;
  bool operator==(const Metric&) const = default;
};

/// How many points of each label have which class as output, or the sum of their weights.
struct ClassTable {
  std::int64_t classes = 0;
  /// A row for each label: a count for each class, and last that of outputs that are NaN.
  std::vector<double> counts;

  double at(std::int64_t label, std::int64_t output) const {
    return counts[static_cast<std::size_t>(label * (classes + 1) + output)];
  }
};

/// What `parse_metrics` takes: "accuracy, top_k[:K], …".
std::string metric_forms();
/// The same, a line for each with its meaning.
std::string describe_metrics();

/// Reads "accuracy,top_k:5,mean_iou,mae,mse" ("top_k" alone is top_k:5; an empty text is no metric), each with an
/// output and a point before it where there are several losses. Throws Error(input) for an unknown or repeated name and
/// a bad number.
std::vector<Metric> parse_metrics(std::string_view text);

/// What is measured under a loss, of labels read so, where nobody has said what is.
std::vector<Metric> default_metrics(const LossDef& loss, const LabelReading& reading);

/// Throws Error(input) naming the first metric that cannot be computed from labels read so, of an output of so many
/// classes. `found` tells of them.
void check_metrics(const std::vector<Metric>& metrics, const LabelReading& reading, std::int64_t classes,
                   const std::string& found);
/// Throws Error(input) naming the first that is a table.
void check_are_numbers(const std::vector<Metric>& metrics);

/// Running values of some metrics.
class Metrics {
 public:
  explicit Metrics(std::vector<Metric> metrics = {}, LabelReading reading = {});
  /// More of them, of the output and labels of another term of the loss: the next number that `add` takes for it.
  void add_term(std::vector<Metric> metrics, LabelReading reading);

  /// One batch of a term: an output of f16, bf16, f32 or f64, and labels as the reading tells, up to axes of extent 1.
  /// An output that is NaN hits no label. `weights`, f32, has one for each row or each point: each counts so often.
  /// Allocates nothing after the first, but for auc, which keeps all outputs. Throws Error(input)
  /// when labels, output and weights do not fit or a class index is outside of [0, C) and not ignored.
  void add(const Tensor& output, const Tensor& labels, std::size_t term = 0, const Tensor* weights = nullptr);

  std::size_t size() const { return metrics_.size(); }
  const Metric& metric(std::size_t i) const { return metrics_[i]; }
  /// NaN before the first label that counts, and for a table.
  double value(std::size_t i) const;
  /// Null for a metric that is a number; of no class before the first batch.
  const ClassTable* table(std::size_t i) const;
  void reset();

  /// What was summed up of the metrics that are numbers, to go on from; by their names.
  NamedTensors state() const;
  /// Metrics that it lacks start anew. Throws Error(input) for what no `state` gave.
  void load_state(const NamedTensors& state);

  /// What a metric sums up.
  struct Tally {
    double sum = 0, weight = 0;
    std::vector<double> hits, labels, outputs;  ///< by class
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
