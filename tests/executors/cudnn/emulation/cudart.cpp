// The CUDA runtime: devices, memory and copies.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include "tests/executors/cudnn/emulation/cudart_state.h"
#include "tests/executors/cudnn/emulation/streams.h"

namespace emulation {
namespace {

bool is_pinned(const void* p, std::size_t bytes) { return block_of(state().pinned, p, bytes) != nullptr; }

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
  const bool pageable = (!from_device && !is_pinned(from, bytes)) || (!to_device && !is_pinned(to, bytes));
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
  properties->uuid.bytes[0] = static_cast<char>(0xe0);
  properties->uuid.bytes[15] = static_cast<char>(device);
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= machine().devices) return fail(cudaErrorInvalidDevice);
  set_this_device(device);
  const Entered entered;
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "an error";
}
cudaError_t cudaPeekAtLastError() {
  const std::lock_guard lock(mutex());
  return state().latest;
}
cudaError_t cudaGetLastError() {
  const std::lock_guard lock(mutex());
  return std::exchange(state().latest, cudaSuccess);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* all) {
  const Entered entered;
  *all = machine().memory;
  *free = *all - std::min(*all, state().used[this_device()]);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  const Entered entered;
  std::size_t& used = state().used[this_device()];
  if (used + bytes > machine().memory) return fail(cudaErrorMemoryAllocation);
  const cudaError_t status = allocate(state().device, p, bytes);
  if (status != cudaSuccess) return status;
  used += bytes;
  state().most_used = std::max(state().most_used, used_memory());
  return status;
}
cudaError_t cudaFree(void* p) {
  const Entered entered;
  if (p && is_unsafe_in_capture()) return fail(cudaErrorStreamCaptureUnsupported);
  const auto it = state().device.find(static_cast<std::byte*>(p));
  if (it != state().device.end()) state().used[it->second.device] -= it->second.bytes;
  return release(state().device, p);
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  const Entered entered;
  return allocate(state().pinned, p, bytes);
}
cudaError_t cudaFreeHost(void* p) {
  const Entered entered;
  if (p && is_unsafe_in_capture()) return fail(cudaErrorStreamCaptureUnsupported);
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
}
