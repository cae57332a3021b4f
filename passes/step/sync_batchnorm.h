// BatchNormalization over the rows of all ranks.
#pragma once

#include <halfstep/passes/pass.h>

namespace halfstep {

/// Has each BatchNormalization in training form take mean and variance from the rows of all ranks: their sums are added
/// up, those of the values first and then those of the squares around the mean, and the node is given what follows.
/// Backpropagation goes through these sums as through anything else. To follow share_loss, whose input tells whether a
/// rank's rows count at all.
Pass sync_batchnorm();

}  // namespace halfstep
