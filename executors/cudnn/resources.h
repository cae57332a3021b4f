// Owners of what the CUDA libraries hand out: each frees what it holds, can be moved and not copied.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "executors/cudnn/status.h"

namespace halfstep::cudnn {

/// A handle of type H freed by `Free`; what Free answers is dropped, as nobody can act on it.
template <class H, auto Free>
class Owned {
 public:
  Owned() = default;
  explicit Owned(H handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, H{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_) Free(handle_);
  }
  H get() const { return handle_; }
  explicit operator bool() const { return handle_ != H{}; }

 private:
  H handle_{};
};

using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using CapturedGraph = Owned<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;
using CudnnHandle = Owned<cudnnHandle_t, cudnnDestroy>;
using BlasHandle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using TensorDescriptor = Owned<cudnnTensorDescriptor_t, cudnnDestroyTensorDescriptor>;
using PoolingDescriptor = Owned<cudnnPoolingDescriptor_t, cudnnDestroyPoolingDescriptor>;
using MatmulDescriptor = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using MatrixLayout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using MatmulPreference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// So that a kernel's launch function, which must be copyable, can hold what can only be moved.
template <class T>
std::shared_ptr<const T> share(T owned) {
  return std::make_shared<const T>(std::move(owned));
}

/// Memory of the device, or page-locked memory of the host (which copies to the device without waiting).
using DevicePointer = Owned<void*, cudaFree>;
using PinnedPointer = Owned<void*, cudaFreeHost>;

/// A block of device memory, 256-byte aligned, filled with zeros in the stream's order: the legacy stream, in which
/// cudaMemset works, is in no order with one that does not block. Zero bytes hold no memory.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(std::size_t bytes, cudaStream_t stream) : bytes_(bytes) {
    if (bytes == 0) return;
    void* p = nullptr;
    check(cudaMalloc(&p, bytes), "cudaMalloc");
    pointer_ = DevicePointer(p);
    check(cudaMemsetAsync(p, 0, bytes, stream), "cudaMemsetAsync");
  }
  std::byte* get() const { return static_cast<std::byte*>(pointer_.get()); }
  std::size_t bytes() const { return bytes_; }

 private:
  DevicePointer pointer_;
  std::size_t bytes_ = 0;
};

inline PinnedPointer make_pinned(std::size_t bytes) {
  void* p = nullptr;
  check(cudaMallocHost(&p, bytes ? bytes : 1), "cudaMallocHost");
  return PinnedPointer(p);
}

inline Stream make_stream() {
  cudaStream_t s = nullptr;
  check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return Stream(s);
}

/// One that streams wait for; it tells no time.
inline Event make_event() {
  cudaEvent_t e = nullptr;
  check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return Event(e);
}

class BackendDescriptor;
class PlanCache;

/// The bytes of a part of scratch memory after which the next part is aligned as allocations of the device are.
constexpr std::size_t padded_bytes(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

/// The workspace in bytes that a call of cuDNN may take, for which another would do.
inline constexpr std::size_t kMostWorkspace = std::size_t{256} << 20;

/// Which ways of computing are taken.
struct Arithmetic {
  bool tf32 = false;          ///< f32 operands of products and convolutions are rounded to TF32, for tensor cores
  bool deterministic = true;  ///< the same bits on every run
};

/// The libraries of one device, bound to one stream. Of a device that is only described there are no handles.
struct Libraries {
  int device = 0;
  int capability = 0;  ///< of the device, as 10 * major + minor
  Stream stream;
  CudnnHandle cudnn;
  BlasHandle blas;
  std::shared_ptr<PlanCache> plans = {};                     ///< made with the handles; gone before them
  std::shared_ptr<const BackendDescriptor> properties = {};  ///< of a device that is only described
  Arithmetic arithmetic = {};
  /// Whether one of cuDNN's calls for recurrent networks has failed when it ran: of the program that is being compiled.
  std::shared_ptr<bool> recurrent_failed = std::make_shared<bool>(false);
};

Libraries open_libraries(int device, int capability);

}  // namespace halfstep::cudnn
