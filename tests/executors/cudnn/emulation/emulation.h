// An emulation of the CUDA, cuDNN and cuBLASLt calls the cudnn executor makes, linked in their place. It checks
// arguments as the manuals define them, runs a stream's work when somebody waits for it (streams.h), and computes on
// the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>

#include <cuda_runtime_api.h>

namespace emulation {

/// The machine the next calls find.
struct Machine {
  int driver_version = 13000;
  int devices = 1;
  int major = 9, minor = 0;
  std::size_t memory = std::size_t{4} << 30;  ///< cudaMalloc fails beyond it
  bool can_capture = true;
  bool can_compile = true;              ///< kernels that are compiled while the program runs
  bool can_plan = true;                 ///< cuDNN's graph API finds engines
  bool can_fuse = true;                 ///< and takes pointwise operations behind a convolution
  bool tells_notes = true;              ///< and says what engines do
  bool keeps_nan = true;                ///< and their ReLU keeps NaN where that is asked for
  int algorithms = 1;                   ///< that cuBLASLt proposes for a product
  std::uint32_t seed = 0;               ///< draws the order of streams' work; 0: everything as late as it may be
  const char* failing = "";             ///< a call that fails whenever it is made
  bool failing_breaks_capture = false;  ///< where that is a call of cuDNN's recurrent networks
  std::size_t recurrent_workspace = 2048;
  std::size_t failing_workspace = 0;  ///< plans with at least so much workspace fail when they run; 0: none
  bool has_epilogues = true;          ///< cuBLASLt has algorithms for those with more than a bias in them
  bool fuses_on_tensor_cores = true;  ///< engines on tensor cores take pointwise operations behind a convolution
  unsigned ignored_waits = 0;         ///< of streams for events: bit 0 those of even number are ignored, bit 1 of odd
  std::function<void()> at_capture = {};  ///< called when a stream's capture has begun
  unsigned most_blocks = 0;  ///< of a launch of a generated kernel, whatever it asks for; 0: as many as that
};
Machine& machine();
/// The next number drawn by the machine's seed.
std::uint32_t draw();

/// Within a call of CUDA: other threads wait.
class Entered {
 public:
  Entered();
  ~Entered();
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
};

/// Whether Machine::failing is this call; then it says why it was refused.
bool fails(const char* call);

/// Work in a stream's order: run when the stream is waited for, or recorded while the stream is captured.
void submit(cudaStream_t stream, std::function<void()> work);

/// The device of the calling thread.
int this_device();
void set_this_device(int device);
/// Devices on which calls have made a context since this was asked last.
std::set<int> contexts();

/// Whether all of [p, p + bytes) lies in one allocation of memory of the thread's device.
bool is_device(const void* p, std::size_t bytes);
/// Of the allocations of device memory that begin at p or before the last one, empty where there is none.
std::span<const std::byte> allocation_before(const void* p);
/// Whether the bytes around every allocation are as they were; where not, latest_refusal says so.
bool guards_are_whole();

/// Handles, descriptors, streams, graphs and allocations that nobody has freed yet.
int live_objects();
void count_object(int change);
/// Allocations of device and page-locked memory so far.
int allocations();
/// Device memory that is allocated, in bytes.
std::size_t used_memory();
/// The most device memory that was allocated at once since this was asked last, in bytes.
std::size_t most_memory();
/// Launches of captured graphs so far.
int graph_launches();
/// Plans of cuDNN's graph API so far that took a compiler.
int plans_compiled();
/// Products of cuBLASLt so far.
int products_launched();
/// Those of them with more than a bias in the epilogue.
int epilogues_launched();
/// Bytes copied from the device to the host so far.
std::size_t bytes_to_host();
/// Whether a stream is being captured: then nothing may be allocated.
bool is_capturing();

/// Why the latest call was refused; empty when none was. Cleared by reading.
const char* latest_refusal();
/// The same, kept.
const char* refusal();
void refuse(const char* why);

}  // namespace emulation
