// One row of an executor's table of kernels.
#pragma once

#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/kernel_context.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Makes a kernel for the context's node, or refuses.
using KernelMaker = Made (*)(KernelContext&);

/// The makers for an operator, best first: the first that takes a node wins, a refusal says why.
struct KernelRow {
  std::string_view op, domain;
  std::vector<KernelMaker> makers;
};

}  // namespace core
}  // namespace halfstep
