#include "distributed/nccl/api.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

namespace halfstep::nccl {
namespace {

constexpr const char* kLibrary = "libnccl.so.2";

cudaError_t make_stream(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking); }
cudaError_t make_event(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDisableTiming); }
cudaError_t take_memory(void** memory, std::size_t bytes) { return cudaMalloc(memory, bytes); }
cudaError_t take_pinned(void** memory, std::size_t bytes) { return cudaMallocHost(memory, bytes); }

}  // namespace

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
  api.set_device = cudaSetDevice;
  api.allocate = take_memory;
  api.free = cudaFree;
  api.allocate_pinned = take_pinned;
  api.free_pinned = cudaFreeHost;
  api.create_stream = make_stream;
  api.destroy_stream = cudaStreamDestroy;
  api.copy = cudaMemcpyAsync;
  api.create_event = make_event;
  api.destroy_event = cudaEventDestroy;
  api.record = cudaEventRecord;
  api.query = cudaEventQuery;
  api.cuda_error_string = cudaGetErrorString;
  api.exit = _exit;
  return true;
}

}  // namespace halfstep::nccl
