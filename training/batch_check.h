// Labels and sample weights of a batch that no loss is defined for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "training/batch_fit.h"
#include <halfstep/passes/step/loss_options.h>

namespace halfstep {

/// What a loss needs of labels and weights, found once.
class BatchCheck {
 public:
  /// A function may take any.
  BatchCheck(const LossOptions& loss, const LossInputs& inputs);

  /// Throws Error(input), which names the row, for a sample weight that is negative, NaN or beyond 1e30, and for a
  /// label of a loss of probabilities or binary labels that is outside of [0, 1] and not ignored. `batch` is one that
  /// `fit_batch` made by the same inputs.
  void check(const FittedBatch& batch) const;

 private:
  struct Labels {
    std::string name;
    std::size_t place = 0;  ///< in a batch
    std::optional<std::int64_t> ignored = {};
  };
  std::vector<Labels> probabilities_;
  std::vector<std::string> weights_;  // names, in the order of a batch
};

}  // namespace halfstep
