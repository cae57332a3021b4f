// What a run sums up over the steps of an epoch.
#pragma once

#include "training/loss_mean.h"
#include <halfstep/graph/named_tensors.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/trainer.h>

namespace halfstep {

/// The mean loss and the metrics of the running epoch, as StepResult tells them.
class EpochSums {
 public:
  /// The task must outlive it.
  explicit EpochSums(const Task& task) : task_(task), loss_(task), metrics_(task.new_metrics()) {}

  void reset();
  /// A batch that the program has run.
  void add(const StepProgram& program, const Batch& batch);
  /// Whether no label of the epoch counted so far.
  bool is_empty() const { return loss_.is_empty(); }
  /// Sets the members of the result that are about the epoch.
  void tell(StepResult& result) const;

  /// The sums, and those numbers of the last step that an epoch's end tells: for checkpoints.
  NamedTensors state(const StepResult& last) const;
  /// Throws Error(input) for what no run leaves.
  void load(const NamedTensors& state, StepResult& last);

 private:
  const Task& task_;
  LossMean loss_;
  Metrics metrics_;
};

}  // namespace halfstep
