// The failure that the emulated CUDA runtime keeps until somebody asks for it.
#pragma once

#include <cuda_runtime_api.h>

namespace emulation {

/// What cudaGetLastError will say, as after a call of a library that failed to launch its kernel.
void leave_error(cudaError_t error);

}  // namespace emulation
