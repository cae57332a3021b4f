// What a TrainingStep has of its ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "training/ranks.h"
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/step/rank_options.h>
#include <halfstep/training/training_step.h>

namespace halfstep {

/// Of a step by itself it has nothing to tell.
class StepRanks {
 public:
  /// `precision`: none where rank 0 is going to measure it. `model` is the source's graph, `parameters` its trained
  /// ones, both as the step has them. Collective. Throws Error(input) on every rank where ranks have different models,
  /// values, options or versions.
  StepRanks(const TrainingStepOptions& options, std::optional<DType> precision, const Graph& model,
            std::span<const TensorInfo> parameters);

  /// Null: a step by itself.
  Communicator* communicator() const { return ranks_.get(); }
  /// What programs are made with.
  const RankOptions& options() const { return options_; }

  /// Before a step with a loss: agrees with the other ranks on what this rank's rows are in the mean of each term, in
  /// which they weigh `weights`. `order`: StepProgram::order of the step. `learning_rate` becomes that of rank 0.
  /// Collective.
  void agree_on_shares(std::span<const double> weights, std::uint32_t order, double& learning_rate);
  /// Before a step whose loss is the sum over ranks.
  void forget_shares() { shares_.clear(); }
  /// Those of the next step; empty: all are 1.
  std::span<const float> shares() const { return shares_; }
  /// Before an update: `learning_rate` becomes that of rank 0. Collective.
  void agree_on_learning_rate(double& learning_rate) const;

  /// Of a sharded optimizer, to the states of this rank the moments that others have. Collective.
  void add_moments_of_others(NamedTensors& states) const;
  void remove_moments_of_others(NamedTensors& states) const;
  /// What rounded gradients of all ranks lack is a sum in states that are saved, of which each rank loads its share.
  /// `sum_residuals` is collective.
  void sum_residuals(NamedTensors& states) const;
  void share_residuals(NamedTensors& states) const;

 private:
  std::shared_ptr<Communicator> ranks_;
  RankOptions options_;
  std::string optimizer_;
  std::unique_ptr<StepAgreement> agreement_;
  std::vector<bool> is_sum_;  // of the terms: a sum needs no share
  std::vector<float> shares_;
};

}  // namespace halfstep
