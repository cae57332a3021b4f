// Batch normalization in training as cuDNN's graph API knows it. cuDNN takes its kernels for a few graphs alone: the
// normalization, a ReLU behind it, an addition and a ReLU behind it; the gradient, and one of which the ReLU's operand
// is computed again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executors/cudnn/operation_graph.h"

namespace halfstep::cudnn {

struct BatchNormalizationProblem {
  DType dtype = DType::f16;
  Shape x;  ///< channels lie beside each other
  bool addition = false, relu = false;

  /// Why no graph of cuDNN's computes it on a device of this capability; empty where one may.
  std::string refusal(int capability) const;
  std::string key() const;
};

/// Numbers of the tensors. The epsilon lies in the host's memory; mean and inverse deviation are results.
struct BatchNormalizationTensors {
  enum : std::int64_t { kX, kScale, kBias, kEpsilon, kMean, kInverse, kY, kAdded };
};
std::vector<ExecutionPlan> plan_batch_normalization(const PlanTarget& target, const BatchNormalizationProblem& p,
                                                    const PlanLimits& limits, std::size_t most);

/// The bias is that of the operand of a ReLU.
struct BatchNormalizationGradTensors {
  enum : std::int64_t { kDy, kX, kScale, kMean, kInverse, kDx, kDscale, kDbias, kBias };
};
/// Without an addition: its gradient is that of the ReLU.
std::vector<ExecutionPlan> plan_batch_normalization_grad(const PlanTarget& target, const BatchNormalizationProblem& p,
                                                         const PlanLimits& limits, std::size_t most);

}  // namespace halfstep::cudnn
