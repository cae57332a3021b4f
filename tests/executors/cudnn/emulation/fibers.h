// Blocks of a kernel, each thread a fiber that runs until a barrier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace emulation {

/// A grid of one dimension.
struct Grid {
  unsigned blocks = 1, threads = 1;
};

/// What is told of the threads while they run.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void begin_block(unsigned block) = 0;
  /// A thread is about to go on, on its stack.
  virtual void enter(unsigned block, unsigned thread, std::span<const std::byte> stack) = 0;
  virtual void pass_block_barrier() = 0;
  virtual void pass_warp_barrier(unsigned warp) = 0;
};

/// Runs `body` once for every thread of every block. Between two barriers the threads of a block run one after the
/// other, in an order drawn by the seed (0: ascending), so that what needs a barrier and has none goes wrong. Returns
/// "" or what kept threads from an end: a barrier that some of a block, or of a warp, wait at and others never reach,
/// or different ones that they wait at at once.
std::string run_fibers(Grid grid, Watcher& watcher, const std::function<void()>& body, std::uint32_t seed);

// What the threads call, for threads of run_fibers alone, in a line of the kernel's text.
void block_barrier(int line);
void warp_barrier(int line);
/// As a barrier of the warp, but what threads did to memory is in no order: a shuffle or a vote.
void warp_meeting(int line);

}  // namespace emulation
