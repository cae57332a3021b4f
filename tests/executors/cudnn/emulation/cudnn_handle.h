// What cudnnCreate gives.
#pragma once

#include <cuda_runtime_api.h>

struct cudnnContext {
  cudaStream_t stream = nullptr;
};
