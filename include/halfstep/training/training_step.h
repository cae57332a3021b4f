// Training step by step, on batches provided by the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/precision.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/passes.h>
#include <halfstep/passes/step/rank_options.h>
#include <halfstep/session/profile.h>
#include <halfstep/training/metrics.h>

namespace HALFSTEP_API halfstep {

struct TrainingStepOptions {
  /// Types and shapes of labels are taken from the batches; those of the terms are ignored. A function without labels
  /// takes all tensors of a batch that are not inputs of the model. Unset: one loss of the model's first output, chosen
  /// from the first batch's labels and the model's last node.
  std::optional<LossOptions> loss = {};
  OptimizerOptions optimizer = {};  ///< `accumulate`: `run` updates once per this number of batches
  double learning_rate = 1e-3;
  Precision precision = Precision::automatic;
  std::optional<double> loss_scale = {};  ///< initial scale; unset: 65536 for fp16, off otherwise; 0: off
  ParameterSelection parameters = {};
  TrainingModeOptions mode = {};
  std::map<std::string, std::int64_t> batch_axes = {};  ///< see batch_first
  /// Maximum memory in bytes for a step of any of the programs, see TrainerOptions::memory_budget; 0: no limit.
  std::size_t memory_budget = 0;
  /// The ranks of data-parallel training: each creates a step of the same model and options, and calls the same
  /// functions on its own rows, at least one. The loss must be set. Loss, gradients, their norm and the update are then
  /// those of all rows, with the learning rate of rank 0; gradients of outputs (`backward`) are summed. Outputs and
  /// evaluation cover a rank's own rows; `evaluate` and `predict` use the rank's own running statistics of
  /// BatchNormalization, unless they are shared (TrainingStep::share_statistics). Null: a single process.
  std::shared_ptr<Communicator> ranks = {};
  // As in TrainerOptions.
  std::size_t bucket_bytes = RankOptions().bucket_bytes;  ///< of gradients that are all-reduced together
  bool sync_batchnorm = false;  ///< BatchNormalization uses statistics of the rows of all ranks
  /// Each rank updates a part of the parameters, and has the moments of that part. `state` is collective then.
  bool sharded_optimizer = false;
  DType gradient_dtype = DType::f32;  ///< type in which gradients are reduced; bf16 and f16 with error feedback
  std::size_t programs = 16;          ///< cached programs, one per set of shapes; at least 1
  /// Called with the stages of each program. From the second program on, parameters of 4 KiB or more are shown as
  /// zeros: their values are in the store.
  PassObserver observer = {};
};

/// The result of a call of TrainingStep.
struct StepReport {
  float loss = 0;                 ///< 0 if there is none
  std::vector<float> terms = {};  ///< of a loss with several, unweighted
  float gradient_norm = 0;        ///< of the accumulated unscaled gradients, before clipping
  bool gradients_finite = true;   ///< false: the whole update is skipped
  bool due = false;               ///< the batch completes an update, which may have been skipped
  bool updated = false;           ///< the parameters changed
  float loss_scale = 1;           ///< the scale that was used
};

/// A model in training. A step is either `run`, which is one program and the fastest, or one or more calls of
/// `forward_backward`, which accumulate gradients, and then `update`. In between, gradients can be read and replaced.
///
/// Batches are tensors by the names of the model's inputs and of the labels ("labels" unless LossTerm::labels is set),
/// in host memory that need not outlive the call; types may be those that `as_type` converts. The first axis is the
/// batch axis. A program is compiled for each new set of shapes. All share the states, in the layout preferred by the
/// first program: call the step whose speed matters first.
///
/// The executor must outlive the step. Not thread-safe. Throws Error(input) for tensors with unexpected names, types or
/// shapes; then nothing has changed.
class TrainingStep {
 public:
  /// Compiles nothing yet. Throws Error(input) if the model has nothing to train and for options out of range.
  TrainingStep(LoadedModel model, Executor& executor, const TrainingStepOptions& options = {});
  ~TrainingStep();
  TrainingStep(TrainingStep&&) noexcept;
  TrainingStep& operator=(TrainingStep&&) noexcept;

  // One step.

  /// Forward, backward, update.
  StepReport run(const NamedTensors& batch);
  /// Forward and backward. Gradients are multiplied by `weight` and added to the sums since the last update.
  StepReport forward_backward(const NamedTensors& batch, double weight = 1);
  /// Updates the parameters with the gradients and clears these; the update is skipped if they are not finite. Throws
  /// Error(input) if there are none.
  StepReport update();
  void forget_gradients();

  // Parts of a step, for losses that are computed elsewhere.

  /// The model's outputs by name, as computed in a training step: with batch statistics and dropout. Changes no state:
  /// the next step draws the same random numbers.
  NamedTensors forward(const NamedTensors& inputs);
  /// forward_backward from the gradients of a loss with respect to some outputs, which have the outputs' shapes.
  /// Recomputes the forward pass, with the same random numbers as `forward`.
  StepReport backward(const NamedTensors& inputs, const NamedTensors& output_gradients, double weight = 1);

  // In inference form, with the current parameters. The states do not change.

  /// The loss only.
  StepReport evaluate(const NamedTensors& batch);
  NamedTensors predict(const NamedTensors& inputs);

  /// The model's outputs of the last call that computed any, without one that is the loss. If a loss takes logits, the
  /// input of a final Softmax replaces its output. Views, valid until the next call.
  NamedTensors outputs() const;

  /// For each term of the loss (one if it is a function), the weight of the last batch's mean in a mean over several
  /// batches: its labels that are not ignored, by class weights and sample weights, or its rows; 1 if the term is a
  /// sum. Throws Error(input) before the first batch, and for a label without a class weight.
  std::vector<double> loss_weights() const;

  /// Running metrics for the output of a term of the loss; `metrics` unset: the default metrics for its labels. Throws
  /// Error(input) before the first batch, and for a metric that cannot be computed from such labels.
  Metrics metrics(const std::optional<std::vector<Metric>>& metrics = {}, std::size_t term = 0) const;
  /// Adds the last call's output and the labels of `batch`, the argument of that call.
  void measure(Metrics& metrics, const NamedTensors& batch, std::size_t term = 0) const;

  // Tensors: copies by the names of the source model; f32 master weights for parameters that it stores in a half type.

  /// In the model's order.
  std::vector<TensorInfo> parameter_types() const;
  NamedTensors parameters() const;
  /// Sets some or all of them.
  void set_parameters(const NamedTensors& values);
  /// Running statistics of BatchNormalization.
  NamedTensors statistics() const;
  /// Replaces the statistics of all ranks, each computed from its own rows, by those of rank 0. Collective.
  void share_statistics();
  /// The accumulated gradients since the last update, unscaled. Parameters without a gradient are omitted. Throws
  /// Error(input) if there are none.
  NamedTensors gradients() const;
  /// Sets some or all of them.
  void set_gradients(const NamedTensors& values);

  /// All parameters concatenated, in the order of parameter_types(), as f32[number of elements].
  Tensor flat_parameters() const;
  void set_flat_parameters(const Tensor& values);
  /// The same for gradients, 0 for parameters without one.
  Tensor flat_gradients() const;
  void set_flat_gradients(const Tensor& values);

  /// Everything that a step changes, by name: parameters, statistics, the optimizer's moments and counters, the loss
  /// scale, and accumulated gradients. A step of the same model and options that loads it continues bit for bit. On
  /// several ranks the statistics are the rank's own. With a half gradient_dtype ("gradient_residual.": the sum over
  /// ranks) or `sharded_optimizer` (all moments) it is collective, and a rank loads its part of such a state.
  NamedTensors state() const;
  /// Throws Error(input) naming tensors that are missing, unknown, or of another type or shape.
  void load_state(const NamedTensors& state);

  // Scalars and reports.

  double learning_rate() const;
  void set_learning_rate(double learning_rate);
  /// 1 if there is no loss scale.
  double loss_scale() const;
  /// Throws Error(input) if there is no loss scale, for a number out of bounds, and while gradients are accumulated.
  void set_loss_scale(double loss_scale);
  /// Updates applied so far; skipped ones do not count.
  std::int64_t updates() const;
  DType precision() const;
  /// Notes on choices made by heuristics, a line each.
  std::vector<std::string> notices() const;
  /// The plan of the training step for this batch.
  const Plan& plan(const NamedTensors& batch);
  /// Profiles training steps on this batch; the steps change the parameters. Throws Error(input) while gradients are
  /// accumulated.
  Profile profile(const NamedTensors& batch, const ProfileOptions& options = {});

  /// Writes the source model with the current parameters and statistics.
  void save(const std::filesystem::path& path, const SaveOptions& options = {}) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
