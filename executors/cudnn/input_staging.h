// Inputs on their way to the device while a step runs.
#pragma once

#include <memory>
#include <vector>

#include <cuda_runtime_api.h>

#include <halfstep/executors/core/device.h>

namespace halfstep::cudnn {

/// Copies from the host on a stream of its own, into memory of the device beside the targets, and from there in the
/// order of `stream`, which takes little time. Allocates now, and nothing later.
std::unique_ptr<core::Staging> make_input_staging(const std::vector<core::StagedInput>& inputs, core::Device& device,
                                                  cudaStream_t stream);

}  // namespace halfstep::cudnn
