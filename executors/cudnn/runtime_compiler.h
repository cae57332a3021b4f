// CUDA C++ compiled for a device while the program runs, by NVRTC, which is loaded when it is first needed. Nothing
// here needs a device or a driver.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "executors/cudnn/kernel_text.h"

namespace halfstep::cudnn {

/// Why nothing can be compiled: NVRTC was not found. Empty when it was.
std::string runtime_compiler_refusal();

/// What the driver loads: machine code for that capability (10 * major + minor), or where this NVRTC is older than the
/// device, PTX for the latest one that it knows. Taken out of the cache folder if it is there, else put there; a folder
/// that cannot be written is no error, and a damaged entry is as none. An empty path: no cache.
/// Throws Error (failure) with the compiler's messages.
std::vector<char> compile(const KernelText& kernel, int capability, const std::filesystem::path& cache);

/// What the compiler says of a kernel's machine code.
struct KernelReport {
  std::vector<char> code;  ///< as `compile` gives it
  int registers = 0;
  int spilled_bytes = 0;    ///< stored and loaded, since there were too few registers
  int stack_bytes = 0;      ///< of those, and of arrays whose indices the compiler does not know
  int vector_accesses = 0;  ///< of 16 bytes, to and from the device's memory
};
/// Compiles it for that capability, which NVRTC must know. Throws as `compile` does.
KernelReport inspect(const KernelText& kernel, int capability);

}  // namespace halfstep::cudnn
