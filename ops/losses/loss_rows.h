// What the table of losses is made from.
#pragma once

#include <vector>

#include <halfstep/ops/losses/loss_def.h>

namespace halfstep {

std::vector<LossDef> class_losses();
std::vector<LossDef> binary_losses();
std::vector<LossDef> value_losses();

/// Over all elements.
Expr loss_mean(Expr x);
/// The sum of `x`, 0 where it does not count, over the number of `labels` that are not `ignored`.
Expr loss_mean_of_counted(Expr x, Expr labels, std::int64_t ignored);
/// miss^gamma, by which a focal loss weighs a loss whose probability misses 1 by `miss`.
Expr focal_weight(Expr miss, double gamma);
/// Of the focal losses: the exponent and the weight.
std::vector<LossNumber> focal_numbers();

}  // namespace halfstep
