#include "executors/cudnn/plan_run.h"

#include <fmt/format.h>

#include "executors/cudnn/pending_failure.h"

namespace halfstep::cudnn {

Made run_plans(KernelContext& context, std::vector<ExecutionPlan> plans, PlanRun run) {
  const ExecutionPlan first = plans.front();
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  const auto given = share(std::move(run));
  const auto all = share(std::move(plans));
  const auto bind = [=](const Launch& l) -> std::function<void()> {
    const PlanTensors tensors = given->find(l);
    auto* workspace = first.workspace ? static_cast<std::byte*>(l.scratch) + given->scratch_bytes : nullptr;
    const auto pack = variant_pack(tensors.numbers, tensors.addresses, workspace);
    return [=, taken = std::size_t{0}]() mutable {
      if (given->before) given->before(l);
      for (;; ++taken) {
        const auto plan = (*all)[taken].plan();
        const cudnnStatus_t status =
            plan ? cudnnBackendExecute(handle, plan->get(), pack->get()) : CUDNN_STATUS_NOT_SUPPORTED;
        if (status == CUDNN_STATUS_SUCCESS) break;
        forget_failure();
        if (taken + 1 < all->size()) continue;
        taken = 0;
        check(status, "cudnnBackendExecute");
      }
      if (given->after) given->after(l);
    };
  };
  return on_device(context, {.name = fmt::format("cudnn: {}, engine {}", given->what, first.engine),
                             .remark = fmt::format("{}{}{}workspace {} bytes", first.notes,
                                                   first.notes.empty() ? "" : ", ", given->remark, first.workspace),
                             .bind = bind,
                             .scratch_bytes = given->scratch_bytes + first.workspace,
                             .in_layouts = given->in_layouts,
                             .out_layouts = given->out_layouts});
}

Made refuse_without(const Plans& none, std::string_view what) {
  return refuse(none.refusal.empty() ? fmt::format("cuDNN's graph API has no plan for this {}", what) : none.refusal);
}

}  // namespace halfstep::cudnn
