// How a model, a data set and the user's options go together: what a batch is, and what the loss is computed from.
#pragma once

#include <cstdint>
#include <optional>
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
  std::vector<std::string> x_names;  ///< the model's inputs that take a batch
  std::string y_name;                ///< its input for the labels, when it computes its own loss
  std::vector<RowTransform> x;       ///< rows of the data set to rows of those inputs
  RowTransform y;
  std::int64_t batch = 0;            ///< rows of a full batch
  bool drop_last = false;            ///< the model takes no smaller one
  std::vector<std::string> notices;  ///< for the user
  TrainingOptions step;              ///< all but what depends on the rows of a batch

  /// What the pipelines take for batches of `rows` rows.
  TrainingOptions step_options(std::int64_t rows) const;
};

/// The inputs of a model that a data set has rows for: all but the labels of one that computes its own loss, which are
/// its last. Throws Error when there is none.
std::vector<std::string> data_inputs(const Graph& model, std::optional<LossKind> loss);

/// The transforms of `data` to rows of the types `wanted`. `options` are for floats alone, where there are any.
std::vector<RowTransform> fit_inputs(const Dataset& data, const std::vector<RowType>& wanted,
                                     const InputOptions& options);

/// `data` is in the order of data_inputs. Throws Error when model, data and options do not fit.
Task make_task(const Graph& model, const Dataset& data, const TrainerOptions& options,
               const Capabilities& capabilities);

/// Throws Error when the model takes no smaller batches than its own, and `data` does not fill one.
void require_full_batch(const Task& task, const Dataset& data);

}  // namespace halfstep
