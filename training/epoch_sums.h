// What a run sums up over the steps of an epoch.
#pragma once

#include <span>

#include "training/loss_mean.h"
#include <halfstep/distributed/communicator.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/trainer.h>

namespace halfstep {

/// The mean loss and the metrics of the running epoch, as StepResult tells them.
class EpochSums {
 public:
  /// The task must outlive it.
  explicit EpochSums(const Task& task) : task_(task), loss_(task), metrics_(task.new_metrics()), merged_(metrics_) {}

  void reset();
  /// A batch that the program has run; `weights` as StepAgreement has them.
  void add(const StepProgram& program, const Batch& batch, std::span<const double> weights);
  /// Metrics of the rows of all ranks, until the next batch is added: what `tell` and `state` give are this rank's
  /// otherwise. Collective.
  void merge(Communicator& ranks);
  /// Whether no label of the epoch counted so far.
  bool is_empty() const { return loss_.is_empty(); }
  /// Sets the members of the result that are about the epoch.
  void tell(StepResult& result) const;

  /// The sums, and those numbers of the last step that an epoch's end tells: for checkpoints.
  NamedTensors state(const StepResult& last) const;
  /// Throws Error(input) for what no run leaves. `is_first`: of the ranks that go on, so that metrics count once.
  void load(const NamedTensors& state, StepResult& last, bool is_first = true);

 private:
  const Task& task_;
  LossMean loss_;
  Metrics metrics_, merged_;
  bool is_merged_ = false;
};

}  // namespace halfstep
