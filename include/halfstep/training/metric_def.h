// The metrics: a table with a row for each, which says what a metric needs, when it is a default, and how it is
// computed.
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
  const Tensor* weights = nullptr;  ///< f32, for each row or each point; null: all 1
};

/// What may stand behind a metric's name: top_k:5.
struct MetricNumber {
  std::string_view name = {};  ///< "K"; empty: the metric has none
  std::int64_t lowest = 0;
  std::int64_t fallback = 0;  ///< where it is left out; one below `lowest` is not shown in the metric's name
  bool is_class = false;      ///< it is one of the output's classes
};

struct MetricDef {
  std::string_view name, meaning;
  MetricNumber number = {};
  /// Whether it can be computed from labels that are read so, of an output with so many classes.
  bool (*takes)(const LabelReading&, std::int64_t classes);
  std::string_view needs;          ///< what `takes` takes, for people
  bool smaller_is_better = false;  ///< it is an error, of which less is better
  void (*add)(Metrics::Tally&, const Metric&, const MetricSample&);
  double (*value)(const Metrics::Tally&, const Metric&) = nullptr;  ///< null: it is a table (Metrics::table)
  /// Whether it is measured where nobody has said what is. Null: never.
  bool (*is_default)(const LossDef&, const LabelReading&) = nullptr;
};

/// All rows, always at the same place.
std::span<const MetricDef> all_metrics();

// The rows, by what they look at.
std::vector<MetricDef> class_metrics();
std::vector<MetricDef> value_metrics();

}  // namespace halfstep
