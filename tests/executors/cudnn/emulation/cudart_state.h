// What the calls of the emulated CUDA runtime share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <set>

#include <cuda_runtime_api.h>

#include "tests/executors/cudnn/emulation/calls.h"
#include "tests/executors/cudnn/emulation/emulation.h"

namespace emulation {

struct Block {
  std::size_t bytes = 0;
  int device = 0;
};
using Blocks = std::map<const std::byte*, Block>;

struct State {
  Machine machine;
  std::mt19937 random;
  std::uint32_t seeded = 0;
  Blocks device, pinned;
  std::map<int, std::size_t> used;  ///< by device
  std::size_t most_used = 0, bytes_to_host = 0;
  std::set<int> contexts;
  std::atomic<int> live = 0;
  int allocations = 0, capturing = 0;
  unsigned stream_waits = 0;  ///< for events
  Calls calls;
  const char* refusal = "";
  cudaError_t latest = cudaSuccess;  ///< failure that nobody has asked for
  bool is_capture_broken = false;
  double clock = 0;  ///< of the device, in milliseconds
};
State& state();
std::recursive_mutex& mutex();

/// What the runtime answers to a call that fails. A capture does not outlive a call that it does not permit.
cudaError_t fail(cudaError_t status);

/// Captures of the calling thread.
int& captures();
/// For a call that a thread may not make while it captures a stream in its own mode.
bool is_unsafe_in_capture();

/// That which has all of [p, p + bytes); nullptr where none has.
const Block* block_of(const Blocks& blocks, const void* p, std::size_t bytes);

cudaError_t allocate(Blocks& blocks, void** p, std::size_t bytes);
/// Waits for the device, as freeing does.
cudaError_t release(Blocks& blocks, void* p);

}  // namespace emulation
