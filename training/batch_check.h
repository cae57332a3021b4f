// Labels and sample weights of a batch that no loss is defined for.
#pragma once

#include "training/batch_fit.h"
#include <halfstep/passes/step/loss_options.h>

namespace halfstep {

/// Throws Error(input), which names the row, for a sample weight that is negative, NaN or beyond 1e30, and for a label
/// of a loss of probabilities or binary labels that is outside of [0, 1] and not ignored. `batch` is one that
/// `fit_batch` made. A function may take any.
void check_labels_and_weights(const LossOptions& loss, const LossInputs& inputs, const FittedBatch& batch);

}  // namespace halfstep
