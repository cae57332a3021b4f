// What ranks find out together, and the sums of which means over batches consist.
#pragma once

#include <span>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/training/metrics.h>

namespace HALFSTEP_API halfstep {

/// The sum and the weight of each.
Tensor sums_of(std::span<const RunningMean> means);
/// Adds to each what `sums_of` as many gave.
void add_sums(std::span<RunningMean> means, const Tensor& sums);

/// Whether any rank says so. Null ranks: a process by itself. Collective.
bool any_of(Communicator* ranks, bool holds);

/// Makes means and metrics what they are over the batches of all ranks, each of which has added its own. Collective.
void merge(Communicator& ranks, std::span<RunningMean> means, std::span<Metrics* const> metrics);

}  // namespace halfstep
