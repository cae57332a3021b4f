// Kernels that the executor generates, built by the host's compiler and run over the emulated memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "executors/cudnn/loaded_kernel.h"

namespace emulation {

/// The same as halfstep::cudnn::load_kernel, for a text that need not come from the executor.
std::shared_ptr<const halfstep::cudnn::LoadedKernel> load_on_host(const halfstep::cudnn::KernelText& kernel);

/// Every text that the executor asked for since the last `forget_texts`.
std::vector<halfstep::cudnn::KernelText> executor_texts();
void forget_texts();

}  // namespace emulation
