#include <algorithm>

#include <halfstep/executors/core/kernel_row.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::core {

std::set<std::string, std::less<>> optimizer_steps(const std::vector<KernelRow>& table) {
  std::set<std::string, std::less<>> steps;
  for (const OptimizerDef& optimizer : optimizers())
    if (std::ranges::any_of(table,
                            [&](const KernelRow& row) { return row.domain == kOwnDomain && row.op == optimizer.op; }))
      steps.emplace(optimizer.op);
  return steps;
}

}  // namespace halfstep::core
