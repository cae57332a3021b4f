// The CUDA runtime.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include "tests/executors/cudnn/emulation/calls.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/pending_error.h"
#include "tests/executors/cudnn/emulation/streams.h"

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace emulation {
namespace {

using Blocks = std::map<const std::byte*, std::size_t>;

struct State {
  Machine machine;
  std::mt19937 random;
  std::uint32_t seeded = 0;
  Blocks device, pinned;
  std::size_t used = 0, most_used = 0, bytes_to_host = 0;
  std::atomic<int> live = 0;
  int allocations = 0, capturing = 0;
  unsigned stream_waits = 0;  ///< for events
  Calls calls;
  const char* refusal = "";
  cudaError_t latest = cudaSuccess;  ///< failure that nobody has asked for
  bool is_capture_broken = false;
};
State& state() {
  static State s;
  return s;
}

/// What the runtime answers to a call that fails. A capture does not outlive a call that it does not permit.
cudaError_t fail(cudaError_t status) {
  state().latest = status;
  if (is_capturing() && (status == cudaErrorStreamCaptureUnsupported || status == cudaErrorStreamCaptureImplicit))
    state().is_capture_broken = true;
  return status;
}

constexpr std::size_t kGuard = 256;  // before and behind every allocation
constexpr std::byte kGuardByte{0xa5};

bool holds(const Blocks& blocks, const void* p, std::size_t bytes) {
  const auto* at = static_cast<const std::byte*>(p);
  auto it = blocks.upper_bound(at);
  if (it == blocks.begin()) return false;
  --it;
  return at + bytes <= it->first + it->second;
}

bool is_whole(const std::byte* guard) {
  return std::all_of(guard, guard + kGuard, [](std::byte b) { return b == kGuardByte; });
}
bool is_whole(const Blocks::value_type& block) {
  return is_whole(block.first - kGuard) && is_whole(block.first + block.second);
}

cudaError_t allocate(Blocks& blocks, void** p, std::size_t bytes) {
  if (is_capturing()) {
    refuse("memory is allocated while a stream is captured");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{256}); }
  };
  std::unique_ptr<std::byte, Free> whole(
      static_cast<std::byte*>(::operator new (bytes + 2 * kGuard, std::align_val_t{256})));
  std::memset(whole.get(), static_cast<int>(kGuardByte), bytes + 2 * kGuard);
  blocks.emplace(whole.get() + kGuard, bytes);
  *p = whole.release() + kGuard;
  std::memset(*p, 0xcd, bytes);  // memory is not zero when it is handed out
  ++state().allocations;
  ++state().live;
  return cudaSuccess;
}

/// Waits for the device, as freeing does.
cudaError_t release(Blocks& blocks, void* p) {
  if (!p) return cudaSuccess;
  const auto it = blocks.find(static_cast<std::byte*>(p));
  if (it == blocks.end()) {
    refuse("memory is freed that was not allocated");
    return fail(cudaErrorInvalidValue);
  }
  run_all();
  if (!is_whole(*it)) refuse("something was written outside of an allocation");
  blocks.erase(it);
  --state().live;
  ::operator delete (static_cast<std::byte*>(p) - kGuard, std::align_val_t{256});
  return cudaSuccess;
}

/// For a call that works on the legacy stream: a capture would not see it.
bool is_refused_in_capture() {
  if (!is_capturing()) return false;
  refuse("the legacy stream is used while a stream is captured");
  return true;
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (is_device(from, bytes) != from_device || is_device(to, bytes) != to_device) {
    refuse("a copy's addresses are not where its kind says");
    return fail(cudaErrorInvalidValue);
  }
  const bool pageable =
      (!from_device && !holds(state().pinned, from, bytes)) || (!to_device && !holds(state().pinned, to, bytes));
  if (pageable && stream->capturing) {
    refuse("pageable memory is copied while its stream is captured");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  if (from_device != to_device) ++state().calls.copies;
  if (kind == cudaMemcpyDeviceToHost) ++state().calls.copies_to_host;
  if (pageable) ++state().calls.waits;
  const auto count = [=] {
    if (kind == cudaMemcpyDeviceToHost) state().bytes_to_host += bytes;
  };
  if (pageable && !from_device) {  // read before the call returns
    std::vector<std::byte> staged(bytes);
    std::memcpy(staged.data(), from, bytes);
    submit(stream, [=] { std::memcpy(to, staged.data(), bytes); });
    return cudaSuccess;
  }
  submit(stream, [=] {
    std::memcpy(to, from, bytes);
    count();
  });
  if (pageable) run_until_idle(stream);
  return cudaSuccess;
}

}  // namespace

namespace {
std::recursive_mutex& mutex() {
  static std::recursive_mutex m;
  return m;
}
}  // namespace

Entered::Entered() { mutex().lock(); }
Entered::~Entered() { mutex().unlock(); }

Machine& machine() { return state().machine; }
std::uint32_t draw() {
  State& s = state();
  if (s.seeded != s.machine.seed) s.random.seed(s.seeded = s.machine.seed);
  return static_cast<std::uint32_t>(s.random());
}
bool fails(const char* call) {
  if (std::string_view(machine().failing) != call) return false;
  refuse("the machine was told to fail here");
  return true;
}
void submit(cudaStream_t stream, Work work) {
  const Entered entered;
  stream = stream_of(stream);
  if (stream->capturing && stream->capturer != std::this_thread::get_id())
    refuse("a stream is given work while another thread captures it");
  if (stream->capturing)
    stream->captured.push_back(std::move(work));
  else
    enqueue(stream, std::move(work));
}
bool is_device(const void* p, std::size_t bytes) { return holds(state().device, p, bytes); }
bool guards_are_whole() {
  const auto whole = [](const Blocks::value_type& block) { return is_whole(block); };
  return std::ranges::all_of(state().device, whole) && std::ranges::all_of(state().pinned, whole);
}
int live_objects() { return state().live; }
void count_object(int change) { state().live += change; }
int allocations() { return state().allocations; }
std::size_t most_memory() { return std::exchange(state().most_used, state().used); }
int graph_launches() { return state().calls.graphs; }
Calls calls() { return state().calls; }
std::size_t bytes_to_host() { return state().bytes_to_host; }
bool is_capturing() { return state().capturing > 0; }
const char* latest_refusal() { return std::exchange(state().refusal, ""); }
const char* refusal() { return state().refusal; }
void refuse(const char* why) { state().refusal = why; }
void leave_error(cudaError_t error) { state().latest = error; }

}  // namespace emulation

using namespace emulation;

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = machine().devices;
  return machine().devices ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= machine().devices) return fail(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "Emulated GPU");
  properties->major = machine().major;
  properties->minor = machine().minor;
  properties->totalGlobalMem = machine().memory;
  properties->multiProcessorCount = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device < machine().devices ? cudaSuccess : fail(cudaErrorInvalidDevice);
}
const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "an error";
}
cudaError_t cudaGetLastError() {
  const Entered entered;
  return std::exchange(state().latest, cudaSuccess);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* all) {
  const Entered entered;
  *all = machine().memory;
  *free = *all - std::min(*all, state().used);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  const Entered entered;
  if (state().used + bytes > machine().memory) return fail(cudaErrorMemoryAllocation);
  const cudaError_t status = allocate(state().device, p, bytes);
  if (status == cudaSuccess) state().most_used = std::max(state().most_used, state().used += bytes);
  return status;
}
cudaError_t cudaFree(void* p) {
  const Entered entered;
  const auto it = state().device.find(static_cast<std::byte*>(p));
  if (it != state().device.end()) state().used -= it->second;
  return release(state().device, p);
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  const Entered entered;
  return allocate(state().pinned, p, bytes);
}
cudaError_t cudaFreeHost(void* p) {
  const Entered entered;
  return release(state().pinned, p);
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  const Entered entered;
  if (!is_device(p, bytes)) return fail(cudaErrorInvalidValue);
  if (is_refused_in_capture()) return fail(cudaErrorStreamCaptureImplicit);
  submit(nullptr, [=] { std::memset(p, value, bytes); });  // the host does not wait
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  const Entered entered;
  if (!is_device(p, bytes)) return fail(cudaErrorInvalidValue);
  submit(stream, [=] { std::memset(p, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const Entered entered;
  if (is_refused_in_capture()) return fail(cudaErrorStreamCaptureImplicit);
  const cudaError_t status = copy(to, from, bytes, kind, stream_of(nullptr));
  if (status == cudaSuccess && kind != cudaMemcpyDeviceToDevice) run_until_idle(stream_of(nullptr));
  return status;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Entered entered;
  return copy(to, from, bytes, kind, stream_of(stream));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Entered entered;
  *stream = new CUstream_st;
  (*stream)->is_blocking = (flags & cudaStreamNonBlocking) == 0;
  add_stream(*stream);
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Entered entered;
  run_until_idle(stream);
  remove_stream(stream);
  delete stream;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Entered entered;
  stream = stream_of(stream);
  if (stream->capturing) {
    refuse("a stream is waited for while it is captured");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  ++state().calls.waits;
  run_until_idle(stream);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Entered entered;
  ++state().calls.waits;
  run_all();
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Entered entered;
  *event = new CUevent_st;
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Entered entered;
  delete event;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Entered entered;
  stream = stream_of(stream);
  event->recorded = {stream, stream->given()};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Entered entered;
  ++state().calls.waits;
  if (event->recorded.stream) run_until(event->recorded);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Entered entered;
  if (!event->recorded.stream || run_towards(event->recorded)) return cudaSuccess;
  return state().latest = cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Entered entered;
  const bool is_ignored = (machine().ignored_waits >> (state().stream_waits++ % 2) & 1U) != 0;
  if (event->recorded.stream && !is_ignored) enqueue(stream_of(stream), [] {}, {event->recorded});
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  std::unique_lock lock(mutex());
  if (!machine().can_capture) return fail(cudaErrorStreamCaptureUnsupported);
  stream->capturing = true;
  stream->capturer = std::this_thread::get_id();
  ++state().capturing;
  lock.unlock();
  if (machine().at_capture) machine().at_capture();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Entered entered;
  stream->capturing = false;
  --state().capturing;
  std::vector<Work> work = std::exchange(stream->captured, {});
  *graph = nullptr;
  const bool is_broken = std::exchange(state().is_capture_broken, false);
  if (is_broken || fails("cudaStreamEndCapture")) return fail(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(work)};
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const Entered entered;
  *exec = new CUgraphExec_st{graph->work};
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const Entered entered;
  ++state().calls.graphs;
  for (const Work& work : exec->work) submit(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Entered entered;
  delete graph;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const Entered entered;
  delete exec;
  count_object(-1);
  return cudaSuccess;
}
}
