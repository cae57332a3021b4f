// What a TrainingStep has of its ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "training/batch_fit.h"
#include "training/default_loss.h"
#include "training/ranks.h"
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/step/rank_options.h>
#include <halfstep/training/training_step.h>

namespace halfstep {

/// Of a step by itself it has nothing to tell.
class StepRanks {
 public:
  /// `model` is the source's graph, `parameters` its trained ones, both as the step has them. Collective. Throws
  /// Error(input) on every rank where ranks have different models, values, options or versions.
  StepRanks(const TrainingStepOptions& options, DType precision, const Graph& model,
            std::span<const TensorInfo> parameters);

  /// What programs are made with.
  const RankOptions& options() const { return options_; }

  /// Before a step with a loss: agrees with the other ranks on what the rows of `batch` are in the mean of each term.
  /// `order`: StepProgram::order of the step. `learning_rate` becomes that of rank 0. Collective.
  void agree_on_shares(const LossOptions& loss, const LossInputs& inputs, std::span<const TermReading> readings,
                       const FittedBatch& batch, std::uint32_t order, double& learning_rate);
  /// Before a step whose loss is the sum over ranks.
  void forget_shares() { shares_.clear(); }
  /// Those of the next step; empty: all are 1.
  std::span<const float> shares() const { return shares_; }

 private:
  std::shared_ptr<Communicator> ranks_;
  RankOptions options_;
  std::unique_ptr<StepAgreement> agreement_;
  std::vector<float> shares_;
};

}  // namespace halfstep
