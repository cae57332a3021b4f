// Each rank updates a part of the parameters (ZeRO, Rajbhandari et al. 2020, stage 1): it alone has their moments, and
// gives the others what the parameters have become.
#pragma once

#include <map>
#include <span>
#include <string>

#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/pass.h>
#include <halfstep/passes/step/rank_options.h>

namespace halfstep {

/// The rank that updates each of the parameters: whole ones, for optimizers that look at a parameter's norm, the
/// largest first, each by the rank that has the fewest bytes so far. The order of `parameters` does not matter.
std::map<std::string, int> owners_of(std::span<const TensorInfo> parameters, int ranks);

/// Removes the parameters of other ranks, and their slots, from the optimizer's nodes, and takes those parameters from
/// their owners. Gradients have been reduced on all ranks, and so all decide alike what they are multiplied by and
/// whether there is an update. No bit of a parameter depends on who updates it.
Pass shard_optimizer(RankOptions options);

}  // namespace halfstep
