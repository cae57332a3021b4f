// What a person and their files see of a training run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/curve_recorder.h"
#include "cli/progress.h"
#include "training/step_log.h"
#include <halfstep/base/error.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cli {

/// Loss and metrics by name, whose storage is the evaluation's.
std::vector<NamedValue> named_values(const Evaluation& evaluation);

/// Passes what happens in a run on to the progress display, the log and the curve.
class RunReporter {
 public:
  /// `epochs` of the run, 0 when it is bounded by steps; `log` may be empty.
  RunReporter(std::int64_t epochs, std::string log, const std::vector<Metric>& metrics);

  /// They refer to this object.
  TrainerCallbacks callbacks();
  /// Throws Error(failure) when records of the log are lost. That they cannot be written does not end a run.
  void close_log();

  const CurveRecorder& curve() const { return curve_; }
  std::int64_t steps() const { return steps_; }
  /// Loss and metrics on the training rows of the last epoch, so far. Their storage is this object's.
  std::vector<NamedValue> last_epoch() const;
  /// Of the last epoch that had one.
  const std::optional<Evaluation>& validation() const { return validation_; }

 private:
  void start(std::int64_t steps);
  template <class Write>
  void log(const Write& write);
  void step(const StepResult& result);
  void end_epoch(const StepResult& last, const Evaluation* validation);
  ProgressPoint point(const StepResult& result);

  std::int64_t epochs_, steps_ = 0;
  double mean_loss_ = 0;
  std::string log_path_;
  Progress progress_;
  CurveRecorder curve_;
  std::optional<StepLog> log_;
  bool log_warned_ = false;
  std::optional<Evaluation> validation_;
  std::vector<std::string> names_;
  std::vector<NamedValue> values_;
  std::vector<GradNorm> norms_;
};

}  // namespace halfstep::cli
