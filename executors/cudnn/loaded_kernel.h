// Generated kernels on the device. Tests put a host's in their place.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include <cuda_runtime_api.h>

#include "executors/cudnn/kernel_text.h"

namespace halfstep::cudnn {

class LoadedKernel {
 public:
  virtual ~LoadedKernel() = default;
  /// Puts the kernel into the stream; its device is the thread's (see GpuDevice::within). The argument is copied before
  /// the call returns. Throws Error (failure).
  virtual void launch(unsigned blocks, unsigned threads, std::span<const std::byte> argument,
                      cudaStream_t stream) const = 0;
};

/// The bytes of a kernel's argument.
template <class T>
std::span<const std::byte> as_argument(const T& argument) {
  return std::as_bytes(std::span(&argument, 1));
}

/// Why kernels cannot be generated on this machine; empty when they can.
std::string generation_refusal();

/// The kernel compiled for a device of that capability (10 * major + minor) and loaded on the present one; the same
/// text once for as long as somebody holds it. Throws Error (failure) with what the compiler says.
std::shared_ptr<const LoadedKernel> load_kernel(const KernelText& kernel, int capability);

}  // namespace halfstep::cudnn
