// The CUDA runtime.
#include <cstring>
#include <deque>
#include <map>
#include <new>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include "tests/executors/cudnn/emulation/emulation.h"

using Work = std::function<void()>;

struct CUstream_st {
  std::deque<Work> queue;
  bool capturing = false;
  std::vector<Work> captured;
};
struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace emulation {
namespace {

struct State {
  Machine machine;
  std::map<const std::byte*, std::size_t> device, pinned;
  std::size_t used = 0;
  int live = 0, allocations = 0, graph_launches = 0, capturing = 0;
  const char* refusal = "";
};
State& state() {
  static State s;
  return s;
}

bool holds(const std::map<const std::byte*, std::size_t>& blocks, const void* p, std::size_t bytes) {
  const auto* at = static_cast<const std::byte*>(p);
  auto it = blocks.upper_bound(at);
  if (it == blocks.begin()) return false;
  --it;
  return at + bytes <= it->first + it->second;
}

cudaError_t allocate(std::map<const std::byte*, std::size_t>& blocks, void** p, std::size_t bytes) {
  if (is_capturing()) {
    refuse("memory is allocated while a stream is captured");
    return cudaErrorStreamCaptureUnsupported;
  }
  *p = ::operator new (bytes, std::align_val_t{256});
  std::memset(*p, 0xcd, bytes);  // memory is not zero when it is handed out
  blocks.emplace(static_cast<std::byte*>(*p), bytes);
  ++state().allocations;
  ++state().live;
  return cudaSuccess;
}

cudaError_t release(std::map<const std::byte*, std::size_t>& blocks, void* p) {
  if (!p) return cudaSuccess;
  const auto it = blocks.find(static_cast<std::byte*>(p));
  if (it == blocks.end()) {
    refuse("memory is freed that was not allocated");
    return cudaErrorInvalidValue;
  }
  blocks.erase(it);
  --state().live;
  ::operator delete (p, std::align_val_t{256});
  return cudaSuccess;
}

void drain(cudaStream_t stream) {
  while (!stream->queue.empty()) {
    const Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    work();
  }
}

}  // namespace

Machine& machine() { return state().machine; }
void submit(cudaStream_t stream, Work work) {
  if (stream->capturing)
    stream->captured.push_back(std::move(work));
  else
    stream->queue.push_back(std::move(work));
}
bool is_device(const void* p, std::size_t bytes) { return holds(state().device, p, bytes); }
int live_objects() { return state().live; }
void count_object(int change) { state().live += change; }
int allocations() { return state().allocations; }
int graph_launches() { return state().graph_launches; }
bool is_capturing() { return state().capturing > 0; }
const char* latest_refusal() { return std::exchange(state().refusal, ""); }
void refuse(const char* why) { state().refusal = why; }

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
  return machine().devices ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= machine().devices) return cudaErrorInvalidDevice;
  *properties = {};
  std::strcpy(properties->name, "Emulated GPU");
  properties->major = machine().major;
  properties->minor = machine().minor;
  properties->totalGlobalMem = machine().memory;
  properties->multiProcessorCount = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device < machine().devices ? cudaSuccess : cudaErrorInvalidDevice; }
const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "an error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  if (state().used + bytes > machine().memory) return cudaErrorMemoryAllocation;
  const cudaError_t status = allocate(state().device, p, bytes);
  if (status == cudaSuccess) state().used += bytes;
  return status;
}
cudaError_t cudaFree(void* p) {
  const auto it = state().device.find(static_cast<std::byte*>(p));
  if (it != state().device.end()) state().used -= it->second;
  return release(state().device, p);
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) { return allocate(state().pinned, p, bytes); }
cudaError_t cudaFreeHost(void* p) { return release(state().pinned, p); }
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  if (!is_device(p, bytes)) return cudaErrorInvalidValue;
  std::memset(p, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (is_device(from, bytes) != from_device || is_device(to, bytes) != to_device) {
    refuse("a copy's addresses are not where its kind says");
    return cudaErrorInvalidValue;
  }
  const bool pageable =
      (!from_device && !holds(state().pinned, from, bytes)) || (!to_device && !holds(state().pinned, to, bytes));
  if (pageable && stream->capturing) {
    refuse("pageable memory is copied while its stream is captured");
    return cudaErrorStreamCaptureUnsupported;
  }
  if (pageable && !from_device) {  // read before the call returns
    std::vector<std::byte> staged(bytes);
    std::memcpy(staged.data(), from, bytes);
    submit(stream, [=] { std::memcpy(to, staged.data(), bytes); });
    return cudaSuccess;
  }
  submit(stream, [=] { std::memcpy(to, from, bytes); });
  if (pageable) drain(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  drain(stream);
  delete stream;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capturing) {
    refuse("a stream is waited for while it is captured");
    return cudaErrorStreamCaptureUnsupported;
  }
  drain(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!machine().can_capture) return cudaErrorStreamCaptureUnsupported;
  stream->capturing = true;
  ++state().capturing;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  stream->capturing = false;
  --state().capturing;
  *graph = new CUgraph_st{std::move(stream->captured)};
  stream->captured.clear();
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};
  count_object(1);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  ++state().graph_launches;
  for (const Work& work : exec->work) submit(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  count_object(-1);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  count_object(-1);
  return cudaSuccess;
}
}
