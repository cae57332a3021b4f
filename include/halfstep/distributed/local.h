// Ranks that are threads of one process: for tests, and to try out what a program does on several ranks.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

/// One for each rank. Each reduction is made in the order of ranks, in f64 for floats.
std::vector<std::shared_ptr<Communicator>> make_local_communicators(
    int size, std::chrono::milliseconds limit = std::chrono::minutes(5));

/// Runs `work` once for each rank, each in a thread. One that throws ends the others; then throws what the first of
/// them threw.
void run_ranks(int size, const std::function<void(const std::shared_ptr<Communicator>&)>& work,
               std::chrono::milliseconds limit = std::chrono::minutes(5));

}  // namespace halfstep
