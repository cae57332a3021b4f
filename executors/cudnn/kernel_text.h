// CUDA C++ that is written, compiled and loaded while the program runs.
#pragma once

#include <string>

namespace halfstep::cudnn {

/// One kernel: an extern "C" __global__ function of one argument, `arguments`' type by value.
struct KernelText {
  std::string name;
  std::string argument;  ///< the type of its argument
  std::string text;
};

}  // namespace halfstep::cudnn
