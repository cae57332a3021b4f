// What cudnnCreate gives, and what all of cuDNN's descriptors have in common.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "tests/executors/cudnn/emulation/emulation.h"
#include <halfstep/base/dtype.h>

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace emulation {

template <class T>
cudnnStatus_t make(T** descriptor) {
  *descriptor = new T;
  count_object(1);
  return CUDNN_STATUS_SUCCESS;
}
template <class T>
cudnnStatus_t destroy(T* descriptor) {
  delete descriptor;
  count_object(-1);
  return CUDNN_STATUS_SUCCESS;
}

inline halfstep::DType dtype_of(cudnnDataType_t t) {
  using halfstep::DType;
  return t == CUDNN_DATA_FLOAT      ? DType::f32
         : t == CUDNN_DATA_HALF     ? DType::f16
         : t == CUDNN_DATA_BFLOAT16 ? DType::bf16
                                    : DType::undefined;
}
/// Whether a call can take it as its workspace: as aligned as all that cudaMalloc gives, since nothing says that less
/// would do.
inline bool is_workspace(const void* p, std::size_t bytes) {
  return bytes == 0 || (is_device(p, bytes) && reinterpret_cast<std::uintptr_t>(p) % 256 == 0);
}
inline cudnnStatus_t refuse_call(const char* why, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
  refuse(why);
  return status;
}

}  // namespace emulation
