// A generated kernel, built by the host's compiler and run over the emulated memory.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "executors/cudnn/kernel_text.h"
#include "tests/executors/cudnn/emulation/fibers.h"

namespace emulation {

class BuiltKernel {
 public:
  /// Throws Error (failure) with what the compiler says.
  explicit BuiltKernel(const halfstep::cudnn::KernelText& kernel);

  /// All blocks, one after the other. Throws Error (failure) where a thread does what a device does not allow: see
  /// accesses.h and fibers.h.
  void run(Grid grid, const void* argument) const;

 private:
  template <class T>
  T* find(const char* name) const;

  std::string name_;
  std::shared_ptr<void> library_;
  bool has_barriers_;
  void (*entry_)(const void*) = nullptr;
};

}  // namespace emulation
