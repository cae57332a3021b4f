// Options of a training run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/graph/precision.h>
#include <halfstep/passes/pipelines.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/schedule.h>

namespace HALFSTEP_API halfstep {

/// A loss of one output of the model.
struct OutputLoss {
  std::optional<std::string> loss = {};  ///< a row of the table; unset: from the labels and the model's last node
  std::string output = {};               ///< the output it is computed from (kOwnLoss: that it is); empty: the first
  std::string labels = {};               ///< name of an array of the data; empty: its y
  double weight = 1;                     ///< of this loss in the sum of several
  LossNumbers numbers = {};              ///< parameters of the loss other than defaults: {"huber-delta", 0.5}
  /// Of that output; negative axes count from the back. Unset: from the labels' shape, else the model, else 1.
  std::optional<std::int64_t> class_axis = {};
  std::vector<double> class_weights = {};  ///< one per class, in order; empty: all 1
  /// Name of an array of the data: a non-negative weight for each row, or for each of its labels. Means of the loss and
  /// of metrics are weighted by them. Validation data without them is unweighted.
  std::string sample_weights = {};

  bool operator==(const OutputLoss&) const = default;
};

struct TrainerOptions {
  /// At least one: {{"l1"}}, or {{.loss = "l1", .output = "boxes", .labels = "true_boxes"}, ...}. Several are summed,
  /// each for a different output; their metrics are named "OUTPUT.METRIC".
  std::vector<OutputLoss> losses = {{}};
  /// Custom loss instead of a loss of the table: a formula over the model's outputs and "labels", if the data has any.
  /// There are no metrics then.
  LossFunction loss_function = {};
  std::int64_t ignore_label = -100;  ///< points with this class index, or elements with this binary label, are ignored
  /// The batch axis of inputs and outputs, by name, if it is not the first. Rows of data lie along axis 0.
  std::map<std::string, std::int64_t> batch_axes = {};
  OptimizerOptions optimizer = {};
  Schedule schedule = {};
  std::optional<Precision> precision = {};  ///< unset: automatic for a Trainer, fp32 for an Evaluator
  /// Initial loss scale; its other options are in `optimizer.loss_scale`. Unset: 65536 for fp16, off otherwise; 0: off.
  std::optional<double> loss_scale = {};
  ParameterSelection parameters = {};
  TrainingModeOptions mode = {};
  std::int64_t epochs = 10;
  std::int64_t steps = 0;        ///< if not 0, stop after this number of steps (batches, see StepResult)
  std::int64_t batch_size = 32;  ///< of all ranks together
  /// The ranks of data-parallel training: each creates a Trainer with the same model, data and options, and calls its
  /// functions in the same order. Each reads its share of every batch. All ranks apply what callbacks of any rank
  /// request (RunControl). Null: a single process.
  std::shared_ptr<Communicator> ranks = {};
  std::size_t bucket_bytes = RankOptions().bucket_bytes;  ///< of gradients that are all-reduced together
  /// BatchNormalization uses statistics of the rows of all ranks. Otherwise each rank uses its own rows, and validation
  /// and saved models have the statistics of rank 0.
  bool sync_batchnorm = false;
  bool sharded_optimizer = false;     ///< each rank updates a part of the parameters, and has the moments of that part
  DType gradient_dtype = DType::f32;  ///< type in which gradients are reduced; bf16 and f16 with error feedback
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::optional<std::vector<Metric>> metrics = {};  ///< unset: the default metrics for the labels
  InputOptions input = {};
  std::filesystem::path checkpoint = {};  ///< directory; empty: none
  std::int64_t checkpoint_every = 0;      ///< steps; 0: at the end of every epoch. The run's end has one, too
  std::filesystem::path resume = {};      ///< directory; empty: a new run
  /// Additional settings that a resumed run compares with its checkpoint, with a message for each difference: values of
  /// options by their names for users.
  std::map<std::string, std::string> settings = {};
  bool log_grad_norms = false;
  /// Maximum memory of the process for the training step in bytes, as predicted by `halfstep inspect --memory`; 0: no
  /// limit. If the executor's device has its own memory, the limit applies to that memory instead of the host's.
  /// Activations are recomputed in the backward pass to meet it; results are bit-identical. A smaller last batch and
  /// validation are separate programs in addition to that step. If the minimum exceeds the budget, Error(input) states
  /// the minimum.
  std::size_t memory_budget = 0;
  /// Number of consecutive updates that were skipped or had a non-finite loss after which training stops with an error,
  /// in addition to those that reduce the loss scale from its initial value to its minimum.
  std::int64_t max_skipped_in_a_row = 50;
  PassObserver observer = {};
};

/// Throws Error(input) for a number out of range: those of the optimizer, the schedule and these options.
void check(const TrainerOptions& options);

}  // namespace halfstep
