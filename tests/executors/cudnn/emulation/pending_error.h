// The failure that the emulated CUDA runtime keeps until somebody asks for it.
#pragma once

#include <cuda_runtime_api.h>

namespace emulation {

/// What cudaGetLastError will say, as after a call of a library that failed to launch its kernel.
void leave_error(cudaError_t error);
/// As after a call that a capture does not permit: the graph that it is to give is none.
void break_capture();

}  // namespace emulation
