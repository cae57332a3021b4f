// What a user decides about a training run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/graph/precision.h>
#include <halfstep/passes/pipelines.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/schedule.h>

namespace HALFSTEP_API halfstep {

/// A loss of one output of the model.
struct OutputLoss {
  std::optional<std::string> loss = {};  ///< of a row of the table; unset: from the labels and the model's last node
  std::string output = {};               ///< what it is computed from (or is, with kOwnLoss); empty: the model's first
  std::string labels = {};               ///< the name of rows in the data; empty: its y
  double weight = 1;                     ///< in the sum of several
  LossNumbers numbers = {};              ///< those of the loss that are not its defaults: {"huber-delta", 0.5}
  /// Of that output, from the back when negative; unset: as the labels' shape tells, else the model, else 1.
  std::optional<std::int64_t> class_axis = {};
  std::vector<double> class_weights = {};  ///< one for each class in their order; empty: all 1
  /// The name of rows in the data: a weight from 0 on for each row, or for each of its labels. Means of the loss and of
  /// metrics are weighted by them. Validation data may lack them: all weigh the same then.
  std::string sample_weights = {};

  bool operator==(const OutputLoss&) const = default;
};

struct TrainerOptions {
  /// At least one: {{"l1"}}, or {{.loss = "l1", .output = "boxes", .labels = "true_boxes"}, ...}. Several are added up,
  /// each of another output; their metrics are called "OUTPUT.METRIC".
  std::vector<OutputLoss> losses = {{}};
  /// Instead of a loss of the table: a formula over the model's outputs and "labels", where the data has some. There
  /// are no metrics then.
  LossFunction loss_function = {};
  std::int64_t ignore_label = -100;  ///< points with this class index, or elements with this binary label, do not count
  /// The batch's axis in those inputs and outputs, by name, where it is not the first. Rows of data lie along axis 0.
  std::map<std::string, std::int64_t> batch_axes = {};
  OptimizerOptions optimizer = {};
  Schedule schedule = {};
  std::optional<Precision> precision = {};  ///< unset: automatic for a Trainer, fp32 for an Evaluator
  /// The first loss scale; `optimizer.loss_scale` has the rest of it. Unset: 65536 for fp16, off otherwise; 0: off.
  std::optional<double> loss_scale = {};
  ParameterSelection parameters = {};
  TrainingModeOptions mode = {};
  std::int64_t epochs = 10;
  std::int64_t steps = 0;  ///< when not 0, stop after so many steps (batches, see StepResult)
  std::int64_t batch_size = 32;
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::optional<std::vector<Metric>> metrics = {};  ///< unset: those that the table has for the labels
  InputOptions input = {};
  std::filesystem::path checkpoint = {};  ///< directory; empty: none
  std::int64_t checkpoint_every = 0;      ///< steps; 0: at the end of every epoch
  std::filesystem::path resume = {};      ///< directory; empty: start anew
  /// More of what a resumed run compares with its checkpoint, a line for each that differs: values of options by what
  /// users call them.
  std::map<std::string, std::string> settings = {};
  bool log_grad_norms = false;
  /// Bytes that a process may take for the training step, as `halfstep inspect --memory` predicts them: activations are
  /// computed again in the backward pass for that, which changes no bit of a result. 0: any. A smaller last batch and
  /// validation are programs of their own beside that step. Where even the least is more Error(input) says how much
  /// that is.
  std::size_t memory_budget = 0;
  /// Updates in a row, each skipped or of a loss that is not finite, after which training stops with an error, besides
  /// those that bring the loss scale from its first value down to its lowest.
  std::int64_t max_skipped_in_a_row = 50;
  PassObserver observer = {};
};

/// Throws Error(input) for a number that is out of its range: those of the optimizer, the schedule and this list.
void check(const TrainerOptions& options);

}  // namespace halfstep
