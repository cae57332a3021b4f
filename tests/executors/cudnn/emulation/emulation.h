// An emulation of the CUDA, cuDNN and cuBLASLt calls the cudnn executor makes, linked in their place. It checks
// arguments as the manuals define them, keeps a stream's work until somebody waits for it, and computes on the CPU.
#pragma once

#include <cstddef>
#include <functional>

#include <cuda_runtime_api.h>

namespace emulation {

/// The machine the next calls find.
struct Machine {
  int driver_version = 13000;
  int devices = 1;
  int major = 9, minor = 0;
  std::size_t memory = std::size_t{1} << 30;  ///< cudaMalloc fails beyond it
  bool can_capture = true;
};
Machine& machine();

/// Work in a stream's order: run when the stream is waited for, or recorded while the stream is captured.
void submit(cudaStream_t stream, std::function<void()> work);

/// Whether all of [p, p + bytes) lies in one allocation of device memory.
bool is_device(const void* p, std::size_t bytes);

/// Handles, descriptors, streams, graphs and allocations that nobody has freed yet.
int live_objects();
void count_object(int change);
/// Allocations of device and page-locked memory so far.
int allocations();
/// Launches of captured graphs so far.
int graph_launches();
/// Whether a stream is being captured: then nothing may be allocated.
bool is_capturing();

/// Why the latest call was refused; empty when none was. Cleared by reading.
const char* latest_refusal();
void refuse(const char* why);

}  // namespace emulation
