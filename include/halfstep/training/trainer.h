// Training a model: epochs of batches through a compiled step, metrics, evaluation, checkpoints.
#pragma once

#include <atomic>
#include <cstddef>
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
#include <halfstep/training/beside_step.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/options.h>

namespace HALFSTEP_API halfstep {

/// Mean times of a rank over the steps of an epoch, in ms.
struct RankTimes {
  double step = 0;    ///< as StepResult::ms
  double waited = 0;  ///< wait for all ranks before the step: the slowest rank waits least
};

/// The result of one step.
///
/// A step is a batch: options, log and checkpoints count steps. An update is a change of the parameters by the
/// optimizer: there is one after `accumulate` steps, and none if gradients were not finite. The learning-rate
/// schedule and the optimizer's bias correction count applied updates.
struct StepResult {
  std::int64_t step = 0;    ///< counted from 1
  std::int64_t update = 0;  ///< updates applied so far, this step's included
  std::int64_t epoch = 0;   ///< counted from 1
  std::int64_t step_in_epoch = 0, steps_in_epoch = 0;
  std::int64_t samples = 0, epoch_samples = 0;  ///< rows of the epoch seen so far, and in total
  float loss = 0, learning_rate = 0, loss_scale = 1, grad_norm = 0;
  bool grads_finite = true;
  bool dynamic_loss_scale = false;
  std::int64_t skipped = 0;  ///< updates skipped so far in this run
  double ms = 0;
  double mean_loss = 0;  ///< of the epoch so far
  std::vector<std::pair<std::string, float>> const* grad_norms = nullptr;
  const Metrics* metrics = nullptr;
  /// Of all ranks, at the end of an epoch; null for a run by itself and within an epoch.
  const std::vector<RankTimes>* rank_times = nullptr;
};

/// Settings that callbacks may change during a run; see Trainer::control. A request on any rank applies to all ranks:
/// they agree before each step and at the end of each epoch. The learning rate is that of rank 0.
struct RunControl {
  bool stop = false;                         ///< ends the run with this step
  bool skip = false;                         ///< in on_step_begin: skips this batch
  std::optional<double> learning_rate = {};  ///< replaces the schedule's from the next step on, while set
};

/// State of a callback that is part of the run's checkpoints.
struct KeptState {
  std::string name;  ///< its name for users: "moving average"
  std::function<NamedTensors()> save;
  /// Called before on_start if the run resumes from a checkpoint that has it. Throws Error(input) if it does not fit.
  std::function<void(const NamedTensors&)> load;
};

struct TrainerCallbacks {
  /// Before the first step; `steps` is the number of steps before a resume.
  std::function<void(std::int64_t steps)> on_start = {};
  /// `epoch` counts from 1.
  std::function<void(std::int64_t epoch, std::int64_t first_sample)> on_epoch_begin = {};
  /// Before a batch is run; steps count from 1.
  std::function<void(std::int64_t step)> on_step_begin = {};
  std::function<void(const StepResult&)> on_step = {};
  /// After the validation, and before the checkpoint at the end of an epoch. A validation that a stop prevented is
  /// done, and reported here, when the run is resumed.
  std::function<void(const StepResult& last, const Evaluation* validation)> on_epoch_end = {};
  /// After the last checkpoint of a completed run, by its length or by RunControl::stop.
  std::function<void()> on_end = {};
  /// Before a checkpoint is written: records of the steps so far must be saved now.
  std::function<void()> on_checkpoint = {};
  std::function<void(const std::string&)> on_notice = {};
  std::vector<KeptState> kept = {};
};

/// Combines callbacks, called in this order. A second state of the same name gets the suffix 2.
TrainerCallbacks combined(std::vector<TrainerCallbacks> callbacks);

/// One training run. Compiles and caches a program for each batch size. From the first program on it holds one copy of
/// the parameters, the one that is trained; a model that the caller also keeps is a second copy.
class Trainer {
 public:
  /// Checks that model, data and options fit, and throws Error otherwise. Loads and trains nothing yet.
  Trainer(LoadedModel model, Executor& executor, const Dataset& data, TrainerOptions options);
  /// The same with batches provided by the caller. The stream must outlive the trainer. Its first batch is read here.
  Trainer(LoadedModel model, Executor& executor, BatchStream& stream, TrainerOptions options);
  ~Trainer();

  /// Trains to the end, or until `stop` becomes true or the data can no longer be read (then a checkpoint is written,
  /// if a directory is set). Returns false if it was stopped. A checkpoint that cannot be written does not stop the
  /// run: it is tried again when the next one is due. `failure` returns errors that were not recovered.
  bool fit(const TrainerCallbacks& callbacks, const Dataset* validation = nullptr,
           const std::atomic<bool>* stop = nullptr);

  /// The error that kept the last `fit` from completing all its work; the parameters are valid and as trained so far.
  const std::optional<Error>& failure() const;

  /// Loss and metrics over a data set with the current parameters, in inference form.
  Evaluation evaluate(const Dataset& data);

  /// Parameters and running statistics by their names in the source model. None has a half type: parameters that the
  /// model stores in one are trained as f32 master weights.
  NamedTensors parameters() const;
  /// The same, each read on demand. The trainer must outlive the result.
  LazyTensors lazy_parameters() const;
  /// Sets some or all of them. Throws Error(input) for another name, type or shape; then nothing has changed.
  void set_parameters(const NamedTensors& values);

  /// For callbacks, which run in the thread of `fit`. `fit` resets it at the start.
  RunControl& control();
  /// Whether this is rank 0 or a single process: it writes what is the same on all ranks.
  bool is_first_rank() const;

  DType precision() const;
  /// Why `auto` took it; empty where it was asked for.
  const std::string& precision_reason() const;
  /// The first of several losses.
  const LossDef& loss() const;
  /// The loss's name, or those of several: "boxes=l1*5, classes=softmax_cross_entropy".
  std::string loss_text() const;
  const std::vector<Metric>& metrics() const;
  /// Rows of a full batch on all ranks: as asked for, unless the model's batch size is fixed or the data has fewer.
  std::int64_t batch_size() const;
  /// Notes on choices made by heuristics, a line each, which `fit` gives to on_notice.
  const std::vector<std::string>& notices() const;
  std::int64_t parameter_count() const;
  /// Sizes in bytes of the buckets of gradients, in the order of the backward pass; empty for a single process.
  std::vector<std::size_t> bucket_bytes() const;
  /// The plan of the training step for a full batch.
  const Plan& plan();
  /// Memory use of that step; none if the executor does not report it.
  std::optional<MemoryUse> memory();
  /// What a memory budget counts of the host's memory beside that; nothing on a device with memory of its own.
  BesideStep beside_step();
  /// Profiles training steps on the data set's first batch; the steps change the parameters.
  Profile profile(const ProfileOptions& options = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
