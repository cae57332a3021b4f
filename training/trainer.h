// Training a model: epochs of batches through a compiled step, metrics, evaluation, checkpoints.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/row_transform.h"
#include "executors/executor.h"
#include "onnx_io/load.h"
#include "passes/pipelines.h"
#include "training/metrics.h"
#include "training/schedule.h"

namespace halfstep {

enum class Precision { automatic, fp32, bf16, fp16 };
/// "auto", "fp32", "bf16", "fp16"; throws Error for anything else.
Precision parse_precision(std::string_view name);
std::string_view name_of(Precision precision);
/// What `precision` means on a device: automatic becomes what the device prefers.
DType resolve(Precision precision, const Capabilities& capabilities);

struct TrainerOptions {
  std::optional<LossKind> loss;  ///< unset: from the labels' type and the model's last node
  std::string loss_output;       ///< model output the loss is computed from (or is, with LossKind::output)
  OptimizerOptions optimizer;
  Schedule schedule;
  Precision precision = Precision::automatic;
  std::optional<double> loss_scale;  ///< unset: dynamic from 65536 for fp16, off otherwise; 0: off
  ParameterSelection parameters;
  TrainingModeOptions mode;
  std::int64_t epochs = 10;
  std::int64_t steps = 0;  ///< when not 0, stop after so many steps
  std::int64_t batch_size = 32;
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::optional<std::vector<Metric>> metrics;  ///< unset: accuracy for classes, none otherwise
  InputOptions input;
  std::filesystem::path checkpoint;   ///< directory; empty: none
  std::int64_t checkpoint_every = 0;  ///< steps; 0: at the end of every epoch
  std::filesystem::path resume;       ///< directory; empty: start anew
  bool log_grad_norms = false;
  std::int64_t max_skipped_in_a_row = 50;  ///< then training stops with an error
  PassObserver observer;
};

/// What one step gave.
struct StepResult {
  std::int64_t step = 0;   ///< counted from 1
  std::int64_t epoch = 0;  ///< counted from 0
  std::int64_t step_in_epoch = 0, steps_in_epoch = 0;
  std::int64_t samples = 0, epoch_samples = 0;  ///< rows of the epoch seen so far, and in all
  float loss = 0, learning_rate = 0, loss_scale = 1, grad_norm = 0;
  bool grads_finite = true;
  bool dynamic_loss_scale = false;
  std::int64_t skipped = 0;  ///< steps skipped so far
  double ms = 0;
  double mean_loss = 0;  ///< of the epoch so far
  std::vector<std::pair<std::string, float>> const* grad_norms = nullptr;
  const Metrics* metrics = nullptr;
};

struct Evaluation {
  double loss = 0;
  std::vector<std::pair<std::string, double>> metrics;
  std::int64_t rows = 0;
};

struct TrainerCallbacks {
  std::function<void(std::int64_t epoch, std::int64_t first_sample)> on_epoch_begin;
  std::function<void(const StepResult&)> on_step;
  std::function<void(const StepResult& last, const Evaluation* validation)> on_epoch_end;
  std::function<void(const std::string&)> on_notice;
};

/// One training run. Compiles programs as batch sizes appear and keeps them.
class Trainer {
 public:
  /// Loads nothing and trains nothing yet, but checks that model, data and options fit: throws Error otherwise.
  Trainer(LoadedModel model, Executor& executor, Dataset data, TrainerOptions options);
  ~Trainer();

  /// Trains to the end, or until `stop` becomes true (then a checkpoint is written, when there is a directory for it).
  /// Returns false when it was stopped.
  bool fit(const TrainerCallbacks& callbacks, const Dataset* validation = nullptr,
           const std::atomic<bool>* stop = nullptr);

  /// Loss and metrics over a data set with the present parameters, in inference form.
  Evaluation evaluate(const Dataset& data);

  /// Parameters and running statistics by their names in the source model.
  std::map<std::string, Tensor> parameters() const;

  DType precision() const;
  LossKind loss() const;
  const std::vector<Metric>& metrics() const;
  std::int64_t parameter_count() const;
  const Plan& plan();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
