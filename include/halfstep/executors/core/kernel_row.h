// One row of an executor's table of kernels.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/kernel_context.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Makes a kernel for the context's node, or refuses.
using KernelMaker = Made (*)(KernelContext&);

/// The makers for an operator, best first: the first that accepts a node is used; a refusal gives its reason.
struct KernelRow {
  std::string_view op, domain;
  std::vector<KernelMaker> makers;
};

/// The optimizer steps among the operators of a table, for Capabilities::updates.
std::set<std::string, std::less<>> optimizer_steps(const std::vector<KernelRow>& table);

}  // namespace core
}  // namespace halfstep
