// Ready-made callbacks. Each belongs to one trainer, must outlive its `fit`, and provides the argument of `fit`:
//
//   EarlyStopping stopping(trainer, {.patience = 3});
//   BestModel best(trainer, "best.onnx", model.source, {});
//   trainer.fit(combined({reporter, stopping.callbacks(), best.callbacks()}), &validation);
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <halfstep/base/api.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/training/trainer.h>

namespace HALFSTEP_API halfstep {

/// A monitored quantity of an epoch.
struct Watch {
  std::string what = "loss";  ///< "loss" or a metric's name: of the validation data if there is any, else the mean
                              ///< over the epoch's steps
  std::optional<bool> larger_is_better = {};  ///< unset: from the metric's row; false for a loss
  double least_change = 0;                    ///< an improvement must exceed this
};

/// The best value so far of the monitored quantity.
class BestSoFar {
 public:
  explicit BestSoFar(Watch watch) : watch_(std::move(watch)) {}
  /// Whether the epoch improves on it; NaN never does. Throws Error(failure) if the epoch has no such quantity.
  bool improves(const StepResult& last, const Evaluation* validation);
  /// NaN before the first epoch.
  double value() const { return best_; }
  void set_value(double value) { best_ = value; }
  const std::string& what() const { return watch_.what; }

 private:
  Watch watch_;
  double best_ = std::numeric_limits<double>::quiet_NaN();
};

struct EarlyStoppingOptions {
  Watch watch = {};
  std::int64_t patience = 1;  ///< consecutive epochs without improvement after which the run stops
  /// At the end of the run the parameters are set to those of the best epoch, whether it stopped early or not, as in
  /// Keras 3. A run that is stopped from outside keeps the last ones.
  bool restore = true;
};

/// Stops a run that no longer improves (like EarlyStopping of Keras). Its state, including the best parameters, is part
/// of checkpoints: a resumed run ends as if it had not been interrupted.
class EarlyStopping {
 public:
  /// Throws Error(input) if the run has no such quantity.
  explicit EarlyStopping(Trainer& trainer, EarlyStoppingOptions options = {});
  TrainerCallbacks callbacks();
  std::int64_t best_epoch() const { return best_epoch_; }
  double best() const { return best_.value(); }

 private:
  void stop_if_due();
  NamedTensors state() const;
  void load(const NamedTensors& state);

  Trainer& trainer_;
  EarlyStoppingOptions options_;
  BestSoFar best_;
  NamedTensors parameters_;
  std::int64_t best_epoch_ = 0, waited_ = 0;
};

/// Writes the model after each epoch that is the best so far (like Keras' ModelCheckpoint with save_best_only). On
/// several ranks only rank 0 writes. The run continues if the file cannot be written.
class BestModel {
 public:
  /// `source` is that of the LoadedModel. Throws Error(input) if the run has no such quantity.
  BestModel(Trainer& trainer, std::filesystem::path path, std::shared_ptr<const SourceModel> source, Watch watch = {});
  TrainerCallbacks callbacks();
  /// Why the best model so far is not in the file; unset if it is.
  const std::optional<Error>& failure() const { return failure_; }

 private:
  Trainer& trainer_;
  std::filesystem::path path_;
  std::shared_ptr<const SourceModel> source_;
  BestSoFar best_;
  std::optional<Error> failure_;
};

/// Keeps an exponential moving average of parameters and statistics (Polyak; Keras' EMA): after each applied update
/// average = decay * average + (1 - decay) * value. It is part of checkpoints.
class MovingAverage {
 public:
  /// Throws Error(input) unless `decay` is in [0, 1).
  MovingAverage(Trainer& trainer, double decay);
  TrainerCallbacks callbacks();
  /// For save_trained or Trainer::set_parameters. Empty before the first update.
  const NamedTensors& parameters() const { return average_; }

 private:
  void add();
  NamedTensors state() const;
  void load(const NamedTensors& state);

  Trainer& trainer_;
  double decay_;
  NamedTensors average_;
  std::int64_t updates_ = 0;
};

}  // namespace halfstep
