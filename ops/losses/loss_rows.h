// Shared parts of the rows of the table of losses.
#pragma once

#include <vector>

#include <halfstep/ops/losses/loss_def.h>

namespace halfstep {

std::vector<LossDef> class_losses();
std::vector<LossDef> binary_losses();
std::vector<LossDef> value_losses();

/// The losses of points or elements, 0 where ignored, times the sample weights, as one number. The mean divides by the
/// sum of `weights` (empty: all 1) of those that are not ignored, times the sample weights.
Expr reduced(const LossOperands& o, Expr losses, Expr weights = {});
/// For each label whether it is ignored; `o.ignored` must be set.
Expr is_ignored(const LossOperands& o);
/// A parameter of several rows.
LossNumber label_smoothing();
/// miss^gamma, the weight of a focal loss for a probability that differs from 1 by `miss`.
Expr focal_weight(Expr miss, double gamma);
/// Parameters of the focal losses: the exponent and the weight.
std::vector<LossNumber> focal_numbers();

}  // namespace halfstep
