// What a batch's mean loss weighs in a mean over several batches.
#pragma once

#include <span>
#include <vector>

#include "training/batch_fit.h"
#include "training/default_loss.h"
#include <halfstep/passes/step/loss_options.h>

namespace halfstep {

/// For each term of the loss (one for a function): the divisor of its mean over the batch, by labels that count, class
/// weights and sample weights; 1 for a sum. Throws Error(input) for a label without a class weight.
std::vector<double> term_weights(const LossOptions& loss, const LossInputs& inputs,
                                 std::span<const TermReading> readings, const FittedBatch& batch);

}  // namespace halfstep
