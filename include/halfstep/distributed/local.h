// Ranks that are threads of one process, for tests and for trying out a program on several ranks.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

/// One communicator for each rank. Reductions are computed in the order of ranks, in f64 for floats.
std::vector<std::shared_ptr<Communicator>> make_local_communicators(
    int size, std::chrono::milliseconds limit = std::chrono::minutes(5));

/// Runs `work` once for each rank, each in its own thread. If one throws, the others are ended, and the first exception
/// is rethrown.
void run_ranks(int size, const std::function<void(const std::shared_ptr<Communicator>&)>& work,
               std::chrono::milliseconds limit = std::chrono::minutes(5));

}  // namespace halfstep
