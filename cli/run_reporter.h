// Output of a training run: progress display and files.
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

/// Loss and metrics by name, in the storage of the evaluation.
std::vector<NamedValue> named_values(const Evaluation& evaluation);

/// Outputs of a run besides the terminal. Empty paths mean none.
struct RunRecords {
  std::string log;
  std::string events;                ///< a folder
  std::int64_t histogram_every = 0;  ///< steps between histograms of every parameter; 0: none
  std::function<std::map<std::string, Tensor>()> parameters = {};
};

/// Forwards the events of a run to the progress display, the log, the event file and the curve.
class RunReporter {
 public:
  /// `epochs` of the run, 0 if it is limited by steps.
  RunReporter(std::int64_t epochs, RunRecords records, const std::vector<Metric>& metrics);

  /// They refer to this object.
  TrainerCallbacks callbacks();
  // Both throw Error(failure) if records are lost. A failure to write them does not end a run.
  void close_log();
  void close_events();

  const CurveRecorder& curve() const { return curve_; }
  std::int64_t steps() const { return steps_; }
  /// Loss and metrics on the training rows of the last epoch, so far. The storage belongs to this object.
  std::vector<NamedValue> last_epoch() const;
  /// For the last epoch that had one.
  const std::optional<Evaluation>& validation() const { return validation_; }

 private:
  void start(std::int64_t steps);
  /// Calls `write` for `file`, if there is one; reports its first failure.
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
