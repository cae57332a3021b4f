// What a person and their files see of a training run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/curve_recorder.h"
#include "cli/progress.h"
#include "training/step_log.h"
#include "training/tensorboard.h"
#include <halfstep/base/error.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cli {

/// Loss and metrics by name, whose storage is the evaluation's.
std::vector<NamedValue> named_values(const Evaluation& evaluation);

/// Where a run is recorded beside the terminal. Empty paths stand for none.
struct RunRecords {
  std::string log;
  std::string events;                ///< a folder
  std::int64_t histogram_every = 0;  ///< steps from one histogram of every parameter to the next; 0: none
  std::function<std::map<std::string, Tensor>()> parameters = {};
};

/// Passes what happens in a run on to the progress display, the log, the event file and the curve.
class RunReporter {
 public:
  /// `epochs` of the run, 0 when it is bounded by steps.
  RunReporter(std::int64_t epochs, RunRecords records, const std::vector<Metric>& metrics);

  /// They refer to this object.
  TrainerCallbacks callbacks();
  // Both throw Error(failure) when records are lost. That they cannot be written does not end a run.
  void close_log();
  void close_events();

  const CurveRecorder& curve() const { return curve_; }
  std::int64_t steps() const { return steps_; }
  /// Loss and metrics on the training rows of the last epoch, so far. Their storage is this object's.
  std::vector<NamedValue> last_epoch() const;
  /// Of the last epoch that had one.
  const std::optional<Evaluation>& validation() const { return validation_; }

 private:
  void start(std::int64_t steps);
  /// Has `write` write to `file`, if there is one; says the first time that it fails.
  template <class File, class Write>
  void record(File& file, bool& warned, const char* what, const Write& write);
  template <class Write>
  void log(const Write& write) {
    record(log_, log_warned_, "the log", write);
  }
  template <class Write>
  void events(const Write& write) {
    record(events_, events_warned_, "the event file", write);
  }
  void log_step(const StepResult& result);
  void write_events(const StepResult& result);
  void step(const StepResult& result);
  void end_epoch(const StepResult& last, const Evaluation* validation);
  ProgressPoint point(const StepResult& result);

  std::int64_t epochs_, steps_ = 0;
  double mean_loss_ = 0;
  RunRecords records_;
  Progress progress_;
  CurveRecorder curve_;
  std::optional<StepLog> log_;
  std::optional<EventWriter> events_;
  bool log_warned_ = false, events_warned_ = false;
  std::optional<Evaluation> validation_;
  std::vector<std::string> names_;
  std::vector<NamedValue> values_;
  std::vector<GradNorm> norms_;
};

}  // namespace halfstep::cli
