// The drivers of launch.h on the device.
#pragma once

#include <algorithm>

#include <cuda_runtime.h>

#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/kernels/reduction.h"
#include "executors/cudnn/status.h"

namespace halfstep::cudnn {

template <class F>
__global__ void elements_kernel(const __grid_constant__ F f, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) f(i);
}

template <class F>
__global__ void rows_kernel(const __grid_constant__ F f) {
  __shared__ typename F::Accumulator gathered[kMaxLanes];
  const int lane = static_cast<int>(threadIdx.x);
  for (std::int64_t row = blockIdx.x; row < f.rows; row += gridDim.x) {
    typename F::Accumulator mine = f.identity();
    for (std::int64_t i = lane; i < f.length; i += blockDim.x) f.add(mine, row, i);
    gathered[lane] = mine;
    __syncthreads();
    for (int half = static_cast<int>(blockDim.x) / 2; half > 0; half /= 2) {
      if (lane < half) f.combine(gathered[lane], gathered[lane + half]);
      __syncthreads();
    }
    if constexpr (F::kWrites)
      for (std::int64_t i = lane; i < f.length; i += blockDim.x) f.write(row, i, gathered[0]);
    if (lane == 0) f.finish(row, gathered[0]);
    __syncthreads();  // the next row's gatherings take the same memory
  }
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

template <class F>
void launch_rows(const F& f, CUstream_st* stream) {
  if (f.rows == 0) return;
  const auto blocks = static_cast<unsigned>(std::min(f.rows, kMaxBlocks));
  rows_kernel<<<blocks, static_cast<unsigned>(lanes_of(f.length)), 0, stream>>>(f);
  check(cudaGetLastError(), "kernel launch");
}

}  // namespace halfstep::cudnn
