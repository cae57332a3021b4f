// Training a model: epochs of batches through a compiled step, metrics, evaluation, checkpoints.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/error.h>
#include <halfstep/data/batch_stream.h>
#include <halfstep/data/dataset.h>
#include <halfstep/executors/executor.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/session/profile.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/options.h>

namespace HALFSTEP_API halfstep {

/// What one step gave.
///
/// A step is a batch: options, log and checkpoint count in steps. An update is a change of the parameters by the
/// optimizer: there is one after `accumulate` steps, and none where gradients were not finite. The learning-rate
/// schedule follows the updates that were applied, as an optimizer's bias correction does.
struct StepResult {
  std::int64_t step = 0;    ///< counted from 1
  std::int64_t update = 0;  ///< updates applied so far, this step's included
  std::int64_t epoch = 0;   ///< counted from 1
  std::int64_t step_in_epoch = 0, steps_in_epoch = 0;
  std::int64_t samples = 0, epoch_samples = 0;  ///< rows of the epoch seen so far, and in all
  float loss = 0, learning_rate = 0, loss_scale = 1, grad_norm = 0;
  bool grads_finite = true;
  bool dynamic_loss_scale = false;
  std::int64_t skipped = 0;  ///< updates of this run skipped so far
  double ms = 0;
  double mean_loss = 0;  ///< of the epoch so far
  std::vector<std::pair<std::string, float>> const* grad_norms = nullptr;
  const Metrics* metrics = nullptr;
};

/// What callbacks may change in the course of a run; see Trainer::control.
struct RunControl {
  bool stop = false;                         ///< the run is finished with this step
  bool skip = false;                         ///< in on_step_begin: this batch is left out
  std::optional<double> learning_rate = {};  ///< instead of the schedule's, from the next step on, while it is set
};

/// What a callback keeps from step to step: part of the run's checkpoints.
struct KeptState {
  std::string name;  ///< what users call it: "moving average"
  std::function<NamedTensors()> save;
  /// When a run is resumed from a checkpoint that has it, before on_start. Throws Error(input) where it does not fit.
  std::function<void(const NamedTensors&)> load;
};

struct TrainerCallbacks {
  /// Before the first step; `steps` were done before a resume.
  std::function<void(std::int64_t steps)> on_start = {};
  /// `epoch` counts from 1.
  std::function<void(std::int64_t epoch, std::int64_t first_sample)> on_epoch_begin = {};
  /// Before a batch is run; steps count from 1.
  std::function<void(std::int64_t step)> on_step_begin = {};
  std::function<void(const StepResult&)> on_step = {};
  /// After the validation, and before the checkpoint at the end of an epoch. An epoch's validation that a stop kept
  /// from being made is made, and told, when the run is resumed.
  std::function<void(const StepResult& last, const Evaluation* validation)> on_epoch_end = {};
  /// After the last checkpoint of a run that has come to its end, by its length or by RunControl::stop.
  std::function<void()> on_end = {};
  /// Before a checkpoint is written: what is kept of the steps so far must not be lost after it.
  std::function<void()> on_checkpoint = {};
  std::function<void(const std::string&)> on_notice = {};
  std::vector<KeptState> kept = {};
};

/// All of them, in this order; the second one that keeps state under a name has a 2 behind it.
TrainerCallbacks combined(std::vector<TrainerCallbacks> callbacks);

/// One training run. Compiles programs as batch sizes appear and keeps them. From the first program on it holds one
/// copy of the parameters, the one that is trained; a model that the caller keeps, too, is one more.
class Trainer {
 public:
  /// Loads nothing and trains nothing yet, but checks that model, data and options fit: throws Error otherwise.
  Trainer(LoadedModel model, Executor& executor, const Dataset& data, TrainerOptions options);
  /// The same on batches that the caller makes. The stream must outlive the trainer. Its first batch is read here.
  Trainer(LoadedModel model, Executor& executor, BatchStream& stream, TrainerOptions options);
  ~Trainer();

  /// Trains to the end, or until `stop` becomes true or the data can no longer be read (then a checkpoint is written,
  /// when there is a directory for it). Returns false when it was stopped. A checkpoint that cannot be written stops
  /// nothing: it is tried again when the next one is due. What went wrong and was not made good is `failure`.
  bool fit(const TrainerCallbacks& callbacks, const Dataset* validation = nullptr,
           const std::atomic<bool>* stop = nullptr);

  /// Why the last `fit` did not do all that it was to, though the parameters are as trained so far.
  const std::optional<Error>& failure() const;

  /// Loss and metrics over a data set with the present parameters, in inference form.
  Evaluation evaluate(const Dataset& data);

  /// Parameters and running statistics by their names in the source model. None is of a half type: what the model
  /// stores in one is trained as an f32 master.
  NamedTensors parameters() const;
  /// The same, each read when it is asked for. The trainer must outlive the result.
  LazyTensors lazy_parameters() const;
  /// Some or all of them. Throws Error(input) for another name, type or shape; then nothing has changed.
  void set_parameters(const NamedTensors& values);

  /// For callbacks, which run in the thread of `fit`. `fit` begins with a new one.
  RunControl& control();

  DType precision() const;
  /// Of several losses the first.
  const LossDef& loss() const;
  /// Its name, or those of several: "boxes=l1*5, classes=softmax_cross_entropy".
  std::string loss_text() const;
  const std::vector<Metric>& metrics() const;
  std::int64_t parameter_count() const;
  /// Of the training step on a full batch.
  const Plan& plan();
  /// What that step keeps in memory; none where the executor cannot tell.
  std::optional<MemoryUse> memory();
  /// Where the time of training steps goes, on the data set's first batch; they change the parameters.
  Profile profile(const ProfileOptions& options = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
