// CUDA C++ that is written, compiled and loaded while the program runs.
#pragma once

#include <string>
#include <string_view>

namespace halfstep::cudnn {

/// One kernel: an extern "C" __global__ function of one argument, `arguments`' type by value.
struct KernelText {
  std::string name;
  std::string argument;  ///< the type of its argument
  std::string text;
};

/// The first line of a text in which a product that is added is rounded before the sum is.
inline constexpr std::string_view kNotContracted = "// not contracted\n";
inline bool is_contracted(const KernelText& kernel) { return !kernel.text.starts_with(kNotContracted); }

}  // namespace halfstep::cudnn
