// How a model, a data set and the user's options go together: what a batch is, and what the loss is computed from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/row_transform.h"
#include "graph/graph.h"
#include "passes/pipelines.h"
#include "training/defaults.h"
#include "training/options.h"

namespace halfstep {

struct Task {
  DType precision = DType::f32;
  LossChoice loss;
  std::string x_name, y_name;        ///< graph inputs that take a batch and its labels
  RowTransform x, y;                 ///< rows of the data set to rows of those inputs
  std::int64_t batch = 0;            ///< rows of a full batch
  bool drop_last = false;            ///< the model takes no smaller one
  std::vector<std::string> notices;  ///< for the user
  TrainingOptions step;              ///< all but what depends on the rows of a batch

  /// What the pipelines take for batches of `rows` rows.
  TrainingOptions step_options(std::int64_t rows) const;
};

/// Throws Error when model, data and options do not fit.
Task make_task(const Graph& model, const Dataset& data, const TrainerOptions& options,
               const Capabilities& capabilities);

/// Throws Error when the model takes no smaller batches than its own, and `data` does not fill one.
void require_full_batch(const Task& task, const Dataset& data);

}  // namespace halfstep
