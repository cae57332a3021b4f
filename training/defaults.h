// What a run does when it is not told: the loss, its labels and the metrics, from model and data.
#pragma once

#include <optional>
#include <vector>

#include "data/dataset.h"
#include "data/row_transform.h"
#include "graph/graph.h"
#include "passes/passes.h"
#include "training/metrics.h"

namespace halfstep {

struct LossChoice {
  LossKind kind = LossKind::softmax_cross_entropy;
  RowType label;                        ///< what the graph takes for each row
  std::optional<std::int64_t> classes;  ///< labels are indices below this
  double binary_threshold = 0.5;        ///< for the accuracy of a single output
  std::vector<Metric> metrics;
};

/// `graph` has its shapes bound; `output` is the value the loss is computed from. `wanted` overrides the kind.
/// Integer labels: softmax cross-entropy, or binary cross-entropy for a single output column. Float labels: mean
/// squared error, unless the model ends in Softmax or Sigmoid and the shapes are equal.
LossChoice choose_loss(const Graph& graph, ValueId output, const DataArray& labels, std::optional<LossKind> wanted);

}  // namespace halfstep
