// What ranks find out together. Everything here is collective.
#pragma once

#include <span>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/training/metrics.h>

namespace HALFSTEP_API halfstep {

/// Whether any rank says so. Null ranks: a process by itself.
bool any_of(Communicator* ranks, bool holds);

/// Makes means and metrics what they are over the batches of all ranks, each of which has added its own.
void merge(Communicator& ranks, std::span<RunningMean> means, std::span<Metrics* const> metrics);

}  // namespace halfstep
