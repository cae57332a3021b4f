// How a model, a data set and the user's options go together: what a batch is, and what the loss is computed from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/batch_loader.h"
#include "data/share.h"
#include "training/defaults.h"
#include "training/step_program.h"
#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/graph/graph.h>
#include <halfstep/passes/pipelines.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/options.h>

namespace halfstep {

/// One loss, and where its labels come from.
struct TaskTerm {
  LossChoice loss;
  std::string output = {};                ///< of the model; empty: the first, or the loss has none
  std::string labels = {};                ///< their name in the data; empty: y
  std::optional<RowTransform> rows = {};  ///< unset where it needs no labels
  std::string sample_weights = {};        ///< their name in the data; empty: none
  std::optional<RowTransform> weight_rows = {};
};

struct Task {
  DType precision = DType::f32;  ///< see set_precision
  std::vector<TaskTerm> terms = std::vector<TaskTerm>(1);
  std::vector<std::string> x_names;  ///< the model's inputs that take a batch
  std::string y_name;                ///< its input for the labels, when it computes its own loss from such
  std::vector<RowTransform> x;       ///< rows of the data set to rows of those inputs
  std::int64_t batch = 0;            ///< rows of a full batch, of them this rank's
  std::int64_t all_rows = 0;         ///< of a full batch on all ranks
  Share share = {};
  bool drop_last = false;            ///< the model takes no smaller one
  std::vector<std::string> notices;  ///< for the user
  StepOptions step;                  ///< all but what depends on the rows of a batch

  /// What a model is lowered by for batches of `rows` rows.
  StepOptions step_options(std::int64_t rows) const;

  const LossChoice& loss() const { return terms.front().loss; }
  /// "boxes=l1, classes=softmax_cross_entropy"; of one its name.
  std::string loss_text() const;
  /// Of all terms.
  std::vector<Metric> metrics() const;
  Metrics new_metrics() const;
  /// What the mean of each term over a batch weighs in that over several: nothing for a spare one.
  void weigh(const Batch& batch, std::span<double> weights) const;
  /// Adds a batch's outputs, as the program computed them, its labels and sample weights.
  void measure(Metrics& metrics, const StepProgram& program, const Batch& batch) const;

 private:
  double weight_of(const Batch& batch, std::size_t term) const;
  /// The sample weights of a term; null where it has none.
  const Tensor* samples_of(const Batch& batch, std::size_t term) const;
};

/// The transforms of `data` to rows of the types `wanted`. `options` are for floats alone, where there are any.
std::vector<RowTransform> fit_inputs(const Dataset& data, const std::vector<RowType>& wanted,
                                     const InputOptions& options);

/// All but the precision. Throws Error when model, data and options do not fit.
Task make_task(const PreparedModel& model, const Dataset& data, const TrainerOptions& options);

/// The precision, and the loss scale that goes with it. To be called once. Throws Error(input) where the optimizer's
/// options, or the type of gradients between ranks, do not fit.
void set_precision(Task& task, const TrainerOptions& options, DType precision);

/// `data` and what makes batches for the task of it: its inputs in order, its labels only where they are needed.
struct TaskData {
  Dataset data;
  BatchColumns columns;
  std::vector<std::string> missing_weights;  ///< names of sample weights that it lacks: all weigh 1 then
};
/// Throws Error when the rows are not like those that the task was made for, or do not fill a batch of fixed size.
TaskData fit_data(const Task& task, const Dataset& data, const InputOptions& input);

/// Throws Error(input) for binary labels that are ignored where the task's own data has none: its step ignores none.
void check_ignored_labels(const Task& task, const TaskData& data, std::int64_t ignore_label);

}  // namespace halfstep
