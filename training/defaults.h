// What a run does when it is not told: the loss, how labels are read, and the metrics, from model and data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/graph/graph.h>
#include <halfstep/passes/passes.h>
#include <halfstep/training/label_reading.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/options.h>

namespace halfstep {

struct LossChoice {
  const LossDef* row = losses().data();
  RowType label;  ///< what the graph takes for each row
  TargetOptions target;
  LabelReading reading;
  std::vector<Metric> metrics;
  std::vector<std::string> notices;  ///< what was chosen where there was a choice, and the flag that changes it
};

/// What is asked for of a loss; the rules of the tables choose what is not (ops/losses/loss_def.h,
/// training/metric_def.h).
struct LossRequest {
  std::optional<std::string> loss = {};
  std::optional<std::int64_t> class_axis = {};
  std::int64_t ignore_label = TrainerOptions{}.ignore_label;
  std::optional<std::vector<Metric>> metrics = {};
  bool is_sample = false;  ///< the labels are those of one batch: others may have ignored ones, or some that count
};

/// `graph` has its shapes bound; `output` is the value the loss is computed from. `data` has labels. Throws Error where
/// labels do not fit the loss, or a metric that is asked for does not fit the labels.
LossChoice choose_loss(const Graph& graph, ValueId output, const Dataset& data, const LossRequest& request);

}  // namespace halfstep
