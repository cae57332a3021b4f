// What the optimizer operators' attributes mean, one definition for every executor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "graph/attribute.h"

namespace halfstep::ops {

/// Inputs of AdamStep and SgdStep before the tensors: lr, step, apply, grad_factor.
inline constexpr std::size_t kOptimizerScalars = 4;

/// AdamStep: torch.optim.Adam, or AdamW when decoupled.
struct AdamSettings {
  double beta1, beta2, epsilon, weight_decay;
  bool decoupled;

  explicit AdamSettings(const Attributes& attributes);
};

/// SgdStep: torch.optim.SGD.
struct SgdSettings {
  double momentum, dampening, weight_decay;
  bool nesterov;

  explicit SgdSettings(const Attributes& attributes);
  /// Whether the operator has a buffer for each parameter.
  bool has_buffers() const { return momentum != 0; }
};

/// LossScaleUpdate: the scale after a step, and the number of good steps since it last changed.
struct LossScaleSettings {
  double growth_factor, backoff_factor, min, max;
  std::int64_t growth_interval;

  explicit LossScaleSettings(const Attributes& attributes);
};

}  // namespace halfstep::ops
