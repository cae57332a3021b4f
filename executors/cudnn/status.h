// What the CUDA libraries answer, as halfstep's errors.
#pragma once

#include <string>

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

namespace halfstep::cudnn {

/// Throws Error (failure) naming `call`, the status and what to do, unless the call succeeded.
void check(cudaError_t status, const char* call);
void check(cudnnStatus_t status, const char* call);
void check(cublasStatus_t status, const char* call);

/// "cudaErrorMemoryAllocation (out of memory)"
std::string text_of(cudaError_t status);
/// The status, and what cuDNN says of the call that gave it. To be asked before another call.
std::string text_of(cudnnStatus_t status);

}  // namespace halfstep::cudnn
