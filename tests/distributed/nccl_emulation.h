// NCCL and CUDA for ranks that are threads of this process: streams are threads, memory is the host's. Arguments are
// checked as the manuals define them.
#pragma once

#include <chrono>
#include <string>

#include "distributed/nccl/api.h"

namespace halfstep::emulation {

/// What goes wrong.
struct Faults {
  int rank = -1;           ///< of which rank
  std::string call = {};   ///< fails whenever it is made: "ncclAllReduce", "cudaMalloc"
  std::string later = {};  ///< succeeds, and its failure is found later, as an error of another rank
  std::string slow = {};   ///< is under way for a while
};

/// The calls, for the next ranks; `faults` must outlive them.
nccl::Api api(const Faults& faults);
/// The calls of this thread are those of this rank.
void be_rank(int rank);

/// Has the stream compute for so long.
void compute(cudaStream_t stream, std::chrono::milliseconds time);

/// Streams, events, blocks of memory and communicators that are there.
int live_objects();
/// Calls of ncclCommAbort so far.
int aborts();
/// The code that a rank has ended with last; -1: none has.
int exit_code();
void forget_exit();
/// What a call was refused for last; empty: none was.
std::string refusal();

}  // namespace halfstep::emulation
