// What the table of losses is made from.
#pragma once

#include <vector>

#include <halfstep/ops/losses/loss_def.h>

namespace halfstep {

std::vector<LossDef> class_losses();
std::vector<LossDef> binary_losses();
std::vector<LossDef> value_losses();

/// The losses of points or elements, 0 where they are ignored, times the sample weights, as one number. The mean is one
/// over the sum of `weights` (empty: all 1), of those that count, times the sample weights.
Expr reduced(const LossOperands& o, Expr losses, Expr weights = {});
/// For each label whether it is the ignored one; `o.ignored` is set.
Expr is_ignored(const LossOperands& o);
/// A number that several rows have.
LossNumber label_smoothing();
/// miss^gamma, by which a focal loss weighs a loss whose probability misses 1 by `miss`.
Expr focal_weight(Expr miss, double gamma);
/// Of the focal losses: the exponent and the weight.
std::vector<LossNumber> focal_numbers();

}  // namespace halfstep
