// NCCL on the emulated machine, for ranks that are threads: an operation is work of a stream that ends when all ranks
// have come to theirs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "distributed/nccl/api.h"

namespace emulation {

/// NCCL, emulated, and the machine's CUDA.
halfstep::nccl::Api nccl_api();

/// What each rank, a thread, says against `work`; "" when nothing. One runs at a time: the next has its turn where this
/// one looks whether something is done, and nowhere else.
std::vector<std::string> on_ranks(int size, const std::function<void(int rank)>& work);

/// Operations of NCCL so far.
int operations_of_nccl();

}  // namespace emulation
