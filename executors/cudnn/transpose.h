// Transposition by tiles through shared memory.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "executors/cudnn/kernels/transpose_text.h"
#include <halfstep/base/dtype.h>

namespace halfstep::cudnn {

struct TransposeKernel {
  std::string refusal = {};  ///< why there is none
  std::function<void(const void* from, void* to, cudaStream_t)> launch = {};
};
/// Of a tensor with these extents, in the order of the result's memory; steps[0] and steps[1]: elements to step over in
/// the operand and in the result.
TransposeKernel transpose_kernel(const std::vector<std::int64_t>& extents,
                                 std::span<const std::vector<std::int64_t>> steps, DType dtype, int capability);

}  // namespace halfstep::cudnn
