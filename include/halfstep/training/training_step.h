// Training step by step, on batches of one's own.
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
#include <halfstep/executors/executor.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/precision.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/passes.h>
#include <halfstep/session/profile.h>
#include <halfstep/training/metrics.h>

namespace HALFSTEP_API halfstep {

struct TrainingStepOptions {
  /// Types and shapes of labels are taken from the batches, so those of the terms do not matter; a function without
  /// labels takes all of a batch that is no input of the model. Unset: one loss of the model's first output, as the
  /// first batch's labels and the model's last node tell.
  std::optional<LossOptions> loss = {};
  OptimizerOptions optimizer = {};  ///< `accumulate`: `run` updates with every so many batches
  double learning_rate = 1e-3;
  Precision precision = Precision::automatic;
  std::optional<double> loss_scale = {};  ///< the first one; unset: 65536 for fp16, off otherwise; 0: off
  ParameterSelection parameters = {};
  TrainingModeOptions mode = {};
  std::map<std::string, std::int64_t> batch_axes = {};  ///< see batch_first
  /// Bytes that a process may take for a step of any of the programs, see TrainerOptions::memory_budget; 0: any.
  std::size_t memory_budget = 0;
  std::size_t programs = 16;   ///< as many are kept, each for its shapes; at least 1
  PassObserver observer = {};  ///< is shown the stages of each program
};

/// What a call of TrainingStep did.
struct StepReport {
  float loss = 0;                 ///< 0 where there is none
  std::vector<float> terms = {};  ///< of a loss of several, before their weights
  float gradient_norm = 0;        ///< of the unscaled gradients, summed so far, before clipping
  bool gradients_finite = true;   ///< false: their update is skipped as a whole
  bool updated = false;           ///< the parameters changed
  float loss_scale = 1;           ///< the one that was used
};

/// A model in training. Two ways to make a step: `run`, which is one program and the fastest, or `forward_backward` as
/// often as gradients are to be added up, and then `update`. In between gradients can be read and replaced.
///
/// Batches are tensors by the names of the model's inputs and of the labels ("labels" unless LossTerm::labels says
/// otherwise), in host memory that need not outlive the call; types may be those that `as_type` takes. Their first axis
/// is the batch's. A program is compiled for each set of shapes when it first comes; all share the states, in the
/// layout that the first one likes: where a step's speed matters, make it the first call.
///
/// The executor must outlive the step. Not for several threads at once. Throws Error(input) for tensors of other names,
/// types or shapes; then nothing has changed.
class TrainingStep {
 public:
  /// Compiles nothing yet. Throws Error(input) where the model has nothing to train and for options out of range.
  TrainingStep(LoadedModel model, Executor& executor, const TrainingStepOptions& options = {});
  ~TrainingStep();
  TrainingStep(TrainingStep&&) noexcept;
  TrainingStep& operator=(TrainingStep&&) noexcept;

  // One step.

  /// Forward, backward, update.
  StepReport run(const NamedTensors& batch);
  /// Forward and backward. Gradients are multiplied by `weight` and added to those since the last update.
  StepReport forward_backward(const NamedTensors& batch, double weight = 1);
  /// Updates the parameters by the gradients and forgets these; skips that where they are not finite. Throws
  /// Error(input) where there are none.
  StepReport update();
  void forget_gradients();

  // Parts of it, for losses that are computed elsewhere.

  /// The model's outputs by name, as the training step computes them: by batch statistics and with dropout. Changes
  /// nothing: the next step draws the same numbers.
  NamedTensors forward(const NamedTensors& inputs);
  /// forward_backward from gradients of a loss with respect to some outputs, of their shapes. Computes the forward pass
  /// again, with the same random numbers as `forward` did.
  StepReport backward(const NamedTensors& inputs, const NamedTensors& output_gradients, double weight = 1);

  // In inference form, with the present parameters. The states do not change.

  /// The loss alone.
  StepReport evaluate(const NamedTensors& batch);
  NamedTensors predict(const NamedTensors& inputs);

  /// The model's outputs of the last call that had any, but for one that is the loss; where a loss takes scores, the
  /// input of a final Softmax in its place. Views, good until the next call.
  NamedTensors outputs() const;

  /// Running metrics of what a term of the loss is computed from; `metrics` unset: those that the table has for its
  /// labels. Throws Error(input) before the first batch, and for a metric that cannot be computed from such labels.
  Metrics metrics(const std::optional<std::vector<Metric>>& metrics = {}, std::size_t term = 0) const;
  /// Adds the last call's output and the labels of `batch`, which that call was given.
  void measure(Metrics& metrics, const NamedTensors& batch, std::size_t term = 0) const;

  // Tensors: copies by the names of the source model, f32 masters of what it stores in a half type.

  /// In the model's order.
  std::vector<TensorInfo> parameter_types() const;
  NamedTensors parameters() const;
  /// Some or all of them.
  void set_parameters(const NamedTensors& values);
  /// Running statistics of BatchNormalization.
  NamedTensors statistics() const;
  /// The sums since the last update, without the loss scale. Parameters without a gradient are left out. Throws
  /// Error(input) where there are none.
  NamedTensors gradients() const;
  /// Some or all of them.
  void set_gradients(const NamedTensors& values);

  /// All parameters one after the other, in the order of parameter_types(), as f32[number of elements].
  Tensor flat_parameters() const;
  void set_flat_parameters(const Tensor& values);
  /// The same of the gradients, 0 for parameters without one.
  Tensor flat_gradients() const;
  void set_flat_gradients(const Tensor& values);

  /// Everything that a step changes, by name: parameters, statistics, the optimizer's moments and counters, the loss
  /// scale, and gradients that wait for an update. Loading it into a step of the same model and options makes that step
  /// go on bit for bit.
  NamedTensors state() const;
  /// Throws Error(input) naming what is missing, unknown, or of another type or shape.
  void load_state(const NamedTensors& state);

  // Numbers.

  double learning_rate() const;
  void set_learning_rate(double learning_rate);
  /// 1 without a loss scale.
  double loss_scale() const;
  /// Throws Error(input) without a loss scale, for a number beyond its bounds, and while gradients wait.
  void set_loss_scale(double loss_scale);
  /// Applied so far; skipped ones do not count.
  std::int64_t updates() const;
  DType precision() const;
  /// What had to be guessed, a line each.
  std::vector<std::string> notices() const;
  /// Of the training step for this batch.
  const Plan& plan(const NamedTensors& batch);
  /// Where the time of training steps on this batch goes; they change the parameters.
  Profile profile(const NamedTensors& batch, const ProfileOptions& options = {});

  /// Writes the source model with the present parameters and statistics.
  void save(const std::filesystem::path& path, const SaveOptions& options = {}) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
