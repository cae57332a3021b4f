// The drivers of launch.h on the device.
#pragma once

#include <algorithm>

#include <cuda_runtime.h>

#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/status.h"

namespace halfstep::cudnn {

template <class F>
__global__ void elements_kernel(const __grid_constant__ F f, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) f(i);
}

inline constexpr int kBlock = 256;
inline constexpr std::int64_t kMaxBlocks = 1 << 20;

template <class F>
void launch_elements(const F& f, std::int64_t count, CUstream_st* stream) {
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>(std::min((count + kBlock - 1) / kBlock, kMaxBlocks));
  elements_kernel<<<blocks, kBlock, 0, stream>>>(f, count);
  check(cudaGetLastError(), "kernel launch");
}

}  // namespace halfstep::cudnn
