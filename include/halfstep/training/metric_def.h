// The metrics: a table with a row for each, with its requirements, the rule by which it is a default, and its
// computation.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/tensor.h>
#include <halfstep/ops/losses/loss_def.h>
#include <halfstep/training/label_reading.h>
#include <halfstep/training/metrics.h>

namespace HALFSTEP_API halfstep {

/// One batch.
struct MetricSample {
  const Tensor& output;
  const Tensor& labels;
  const LabelReading& reading;
  const Tensor* weights = nullptr;  ///< f32, one per row or per point; null: all 1
};

/// The optional number after a metric's name: top_k:5.
struct MetricNumber {
  std::string_view name = {};  ///< "K"; empty: the metric has none
  std::int64_t lowest = 0;
  std::int64_t fallback = 0;  ///< default; a default below `lowest` is not shown in the metric's name
  bool is_class = false;      ///< it is a class of the output
};

struct MetricDef {
  std::string_view name, meaning;
  MetricNumber number = {};
  /// Whether it can be computed from labels with this interpretation and an output with this number of classes.
  bool (*takes)(const LabelReading&, std::int64_t classes);
  std::string_view needs;          ///< the condition of `takes`, for messages
  bool smaller_is_better = false;  ///< it is an error: smaller is better
  void (*add)(Metrics::Tally&, const Metric&, const MetricSample&);
  /// Adds the sums of other samples. Curves and tables need no rule of a row.
  void (*merge)(Metrics::Tally&, const Metrics::Tally& other);
  double (*value)(const Metrics::Tally&, const Metric&) = nullptr;  ///< null: it is a table (Metrics::table)
  /// Whether it is measured by default. Null: never.
  bool (*is_default)(const LossDef&, const LabelReading&) = nullptr;
};

/// All rows, at fixed addresses.
std::span<const MetricDef> all_metrics();

// The rows of class metrics and of value metrics.
std::vector<MetricDef> class_metrics();
std::vector<MetricDef> value_metrics();

}  // namespace halfstep
