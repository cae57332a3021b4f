// Elementwise kernels for makers of other operators, which have the addresses themselves.
#pragma once

#include <functional>
#include <vector>

#include "executors/cudnn/kernel.h"

namespace halfstep::cudnn {

/// Puts a kernel into the stream that reads and writes at these addresses.
using LaunchChain =
    std::function<void(const std::vector<const void*>& in, const std::vector<void*>& out, cudaStream_t stream)>;

/// The kernel of a graph whose nodes give values of one shape (see chain_text); the reason where there is none.
struct ChainKernel {
  std::string refusal = {};
  LaunchChain launch = {};
};
ChainKernel load_chain(int capability, const Graph& body);
ChainKernel load_chain(KernelContext& context, const Graph& body);

}  // namespace halfstep::cudnn
