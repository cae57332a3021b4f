// One node compiled for the device.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "executors/cudnn/resources.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/kernel_context.h>
#include <halfstep/executors/core/kernel_row.h>

namespace halfstep::cudnn {

using core::KernelContext;
using core::Made;
using core::refuse;

/// Addresses of one launch, all on the device and 64-byte aligned; null where an operand is absent.
struct Launch {
  cudaStream_t stream = nullptr;
  std::vector<const void*> in;
  std::vector<void*> out;
  void* scratch = nullptr;  ///< 256-byte aligned, as a workspace has to be
  std::vector<void*> kept;  ///< see DeviceKernel

  template <class T>
  const T* input(std::size_t i) const {
    return i < in.size() ? static_cast<const T*>(in[i]) : nullptr;
  }
  template <class T>
  T* output(std::size_t i) const {
    return i < out.size() ? static_cast<T*>(out[i]) : nullptr;
  }
};

struct DeviceKernel {
  std::string name;         ///< as `halfstep inspect --plan` prints it
  std::string remark = {};  ///< what a reader of the plan should know
  /// Puts the work into the stream. Allocates nothing, waits for nothing: it may be captured into a CUDA graph.
  std::function<void(const Launch&)> launch = {};
  /// In its place: gives what does so, once the addresses are known.
  std::function<std::function<void()>(const Launch&)> bind = {};
  std::size_t scratch_bytes = 0;
  /// For output i the input it may share memory with, when all of that input has been read by then; -1, or missing at
  /// the end, for none.
  std::vector<int> overwrites = {};
  /// Of operands and results; row-major where missing at the end.
  std::vector<core::Layout> in_layouts = {}, out_layouts = {};
  std::vector<core::BufferId> kept = {};  ///< memory that other kernels read or have written, too
};

/// The kernel on the node's operands.
Made on_device(KernelContext& context, DeviceKernel kernel);

/// What `make` gives; a refusal where a library's call fails before anything has been asked for: another maker, or the
/// reference kernel, may take the node then.
template <core::KernelMaker make>
Made or_refuse(KernelContext& context) {
  try {
    return make(context);
  } catch (const Error& e) {
    if (context.is_touched()) throw;
    return refuse(e.without_hint());
  }
}

/// The libraries of the context's device.
const Libraries& libraries(const KernelContext& context);

}  // namespace halfstep::cudnn
