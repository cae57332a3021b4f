// Blocks of a kernel, each thread a fiber that runs until a barrier.
#pragma once

#include <cstdint>
#include <functional>

namespace emulation {

/// A grid of one dimension.
struct Grid {
  unsigned blocks = 1, threads = 1;
};

/// Called when thread `thread` of block `block` is about to go on.
using Enter = std::function<void(unsigned block, unsigned thread)>;

/// Runs `body` once for every thread of every block. Between two barriers the threads of a block run one after the
/// other, in an order drawn by the seed (0: ascending), so that what needs a barrier and has none goes wrong. Returns
/// whether all ended; not where a barrier is waited at by some threads of a block, or of a warp, that others never
/// reach.
bool run_fibers(Grid grid, const Enter& enter, const std::function<void()>& body, std::uint32_t seed);

// What the threads call; for threads of run_fibers alone.
void block_barrier();
void warp_barrier();

}  // namespace emulation
