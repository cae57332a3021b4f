// Streams and events as the CUDA programming guide defines them: work runs at any time after it was given to its stream
// and what it has to follow is done, and not before somebody waits for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>

using Work = std::function<void()>;

/// A place in a stream: all that was given to it before.
struct Position {
  cudaStream_t stream = nullptr;
  std::uint64_t done = 0;  ///< how many pieces of work have to be done
};

struct CUstream_st {
  struct Item {
    Work work;
    std::vector<Position> after;
    std::function<bool()> may_run = {};  ///< whether what it waits for is there that is in no stream; unset: yes
  };
  std::deque<Item> queue;
  std::uint64_t done = 0;   ///< pieces of work that have run
  bool is_blocking = true;  ///< in order with the legacy stream
  int device = 0;
  const std::thread::id owner = std::this_thread::get_id();  ///< of ranks that are threads each has a device
  bool capturing = false;
  std::thread::id capturer = {};  ///< whose work is captured; another thread's is an error
  std::vector<Work> captured;

  std::uint64_t given() const { return done + queue.size(); }
};

struct CUevent_st {
  int device = 0;
  Position recorded = {};
  std::shared_ptr<double> reached = {};  ///< when, by the device's clock in milliseconds; of an event that tells it
};

namespace emulation {

/// The stream that a handle means: 0 and cudaStreamLegacy are one of their own.
cudaStream_t stream_of(cudaStream_t handle);

/// Gives work to the stream, behind what the legacy stream's rules and `after` ask for.
void enqueue(cudaStream_t stream, Work work, std::vector<Position> after = {}, std::function<bool()> may_run = {});

/// Runs until the stream's work up to there is done. Which other work runs before, and whether any does, is drawn by
/// Machine::seed; with seed 0 none does that need not. Refused where that waits for what is in no stream: the host
/// would wait, too, with no limit.
void run_until(Position position);
/// Does a piece of the work, if any may run, and tells whether all is done.
bool run_towards(Position position);
inline void run_until_idle(cudaStream_t stream) { run_until({stream, stream->given()}); }
/// Runs all work of this thread's streams and the legacy one.
void run_all();

void add_stream(cudaStream_t stream);
void remove_stream(cudaStream_t stream);

}  // namespace emulation
