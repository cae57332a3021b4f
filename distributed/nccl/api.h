// The functions of NCCL and CUDA that the communicator calls, as a table: NCCL's are looked up when it is opened, so
// that the plug-in is built without its library, and tests have others in their place.
#pragma once

#include <cstddef>
#include <string>

#include <cuda_runtime_api.h>
#include <nccl.h>

namespace halfstep::nccl {

struct Api {
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) init_rank = nullptr;
  decltype(&ncclCommFinalize) finalize = nullptr;
  decltype(&ncclCommDestroy) destroy = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclCommGetAsyncError) async_error = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;

  cudaError_t (*device_count)(int* count) = nullptr;
  cudaError_t (*device_properties)(cudaDeviceProp* properties, int device) = nullptr;
  cudaError_t (*set_device)(int device) = nullptr;
  cudaError_t (*allocate)(void** memory, std::size_t bytes) = nullptr;
  cudaError_t (*free)(void* memory) = nullptr;
  cudaError_t (*allocate_pinned)(void** memory, std::size_t bytes) = nullptr;  ///< of the host
  cudaError_t (*free_pinned)(void* memory) = nullptr;
  cudaError_t (*create_stream)(cudaStream_t* stream) = nullptr;
  cudaError_t (*destroy_stream)(cudaStream_t stream) = nullptr;
  cudaError_t (*copy)(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                      cudaStream_t stream) = nullptr;
  cudaError_t (*create_event)(cudaEvent_t* event) = nullptr;
  cudaError_t (*destroy_event)(cudaEvent_t event) = nullptr;
  cudaError_t (*record)(cudaEvent_t event, cudaStream_t stream) = nullptr;
  cudaError_t (*query)(cudaEvent_t event) = nullptr;
  cudaError_t (*stream_wait)(cudaStream_t stream, cudaEvent_t event) = nullptr;
  const char* (*cuda_error_string)(cudaError_t error) = nullptr;

  void (*exit)(int code) = nullptr;  ///< of the process
};

/// Those of CUDA's runtime, and `exit`.
void take_cuda(Api& api);

/// Those of libnccl.so.2, which the system's loader finds, and of CUDA's runtime. False, and in `reason` a sentence
/// why, where one is missing.
bool load(Api& api, std::string& reason);

}  // namespace halfstep::nccl
