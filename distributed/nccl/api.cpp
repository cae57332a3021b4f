#include "distributed/nccl/api.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

namespace halfstep::nccl {
namespace {

constexpr const char* kLibrary = "libnccl.so.2";

cudaError_t properties_of(cudaDeviceProp* properties, int device) {
  return cudaGetDeviceProperties(properties, device);
}
cudaError_t make_stream(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking); }
cudaError_t make_event(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDisableTiming); }
cudaError_t wait_in_stream(cudaStream_t stream, cudaEvent_t event) { return cudaStreamWaitEvent(stream, event, 0); }
cudaError_t take_memory(void** memory, std::size_t bytes) { return cudaMalloc(memory, bytes); }
cudaError_t take_pinned(void** memory, std::size_t bytes) { return cudaMallocHost(memory, bytes); }

/// The call, of which nothing is left behind: the runtime keeps each failure, "not ready" too, and the executor's next
/// launch of a kernel would report it as its own.
template <auto call, class... Arguments>
cudaError_t answered(Arguments... arguments) {
  const cudaError_t status = call(arguments...);
  if (status != cudaSuccess) cudaGetLastError();
  return status;
}

}  // namespace

void take_cuda(Api& api) {
  api.device_count = answered<cudaGetDeviceCount>;
  api.device_properties = answered<properties_of>;
  api.set_device = answered<cudaSetDevice>;
  api.allocate = answered<take_memory>;
  api.free = answered<cudaFree>;
  api.allocate_pinned = answered<take_pinned>;
  api.free_pinned = answered<cudaFreeHost>;
  api.create_stream = answered<make_stream>;
  api.destroy_stream = answered<cudaStreamDestroy>;
  api.copy = answered<cudaMemcpyAsync>;
  api.create_event = answered<make_event>;
  api.destroy_event = answered<cudaEventDestroy>;
  api.record = answered<cudaEventRecord>;
  api.query = answered<cudaEventQuery>;
  api.stream_wait = answered<wait_in_stream>;
  api.cuda_error_string = cudaGetErrorString;
  api.exit = _exit;
}

bool load(Api& api, std::string& reason) {
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = dlerror();
    reason = fmt::format("{} cannot be loaded ({}): put its folder into LD_LIBRARY_PATH", kLibrary, why ? why : "");
    return false;
  }
  std::string missing;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function && missing.empty()) missing = name;
  };
  find(api.get_unique_id, "ncclGetUniqueId");
  find(api.init_rank, "ncclCommInitRankConfig");
  find(api.finalize, "ncclCommFinalize");
  find(api.destroy, "ncclCommDestroy");
  find(api.abort, "ncclCommAbort");
  find(api.async_error, "ncclCommGetAsyncError");
  find(api.error_string, "ncclGetErrorString");
  find(api.all_reduce, "ncclAllReduce");
  find(api.reduce_scatter, "ncclReduceScatter");
  find(api.all_gather, "ncclAllGather");
  find(api.broadcast, "ncclBroadcast");
  if (!missing.empty()) {
    reason = fmt::format("{} has no function '{}': NCCL 2.14 or newer is needed", kLibrary, missing);
    return false;
  }
  take_cuda(api);
  return true;
}

}  // namespace halfstep::nccl
