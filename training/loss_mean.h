// The mean of a run's loss over batches.
#pragma once

#include <span>
#include <vector>

#include "training/step_program.h"
#include "training/task.h"
#include <halfstep/graph/tensor.h>
#include <halfstep/training/metrics.h>

namespace halfstep {

/// Of each term the mean over the labels that count, weighted as in its batches; of several the weighted sum of these.
/// So the mean over batches of any sizes is that of one batch with all of their rows.
class LossMean {
 public:
  /// The task must outlive it.
  explicit LossMean(const Task& task);

  /// A batch that the program has run.
  void add(const StepProgram& program, const Batch& batch);
  /// One that weighs so much in the mean of each term.
  void add(const StepProgram& program, std::span<const double> weights);
  bool is_empty() const;
  /// NaN while it is empty.
  double value() const;
  void reset();
  /// Of each term.
  std::span<RunningMean> means() { return terms_; }

  /// The sums, to go on from.
  Tensor state() const;
  /// False, and nothing is loaded, for a tensor that no `state` of such a task gave.
  bool load_state(const Tensor& state);

 private:
  const Task& task_;
  std::vector<RunningMean> terms_;
  std::vector<double> weights_;  // of the batch that is added
};

}  // namespace halfstep
