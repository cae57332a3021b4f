// Kernels that are a call of a SIMD function.
#pragma once

#include <functional>

#include "executors/onednn/kernel.h"

namespace halfstep::onednn {

/// `run` gets the addresses of these operands and buffers.
template <class F, class... Places>
Made simd_kernel(F run, const Places&... places) {
  return {"simd", {}, [=](const Memory& memory) -> Run { return std::bind(run, memory.at(places)...); }};
}

}  // namespace halfstep::onednn
