// What the CPU can compute, as it says itself.
#pragma once

#include <string>
#include <vector>

namespace halfstep::onednn {

struct CpuFeatures {
  std::string model;                                ///< "AMD EPYC 9654 96-Core Processor"
  bool f16c = false, avx2 = false, avx512 = false;  ///< avx512: F, BW, DQ and VL
  bool avx512_bf16 = false, avx512_fp16 = false;
  bool amx_tile = false, amx_bf16 = false, amx_int8 = false, amx_fp16 = false;

  /// The names of those that are there, as /proc/cpuinfo writes them.
  std::vector<std::string> names() const;
};

/// CPUID, as far as the operating system has the registers enabled.
CpuFeatures detect_cpu();

}  // namespace halfstep::onednn
