#include "executors/cudnn/plan_run.h"

#include <fmt/format.h>

namespace halfstep::cudnn {

Made run_plans(KernelContext& context, std::vector<ExecutionPlan> plans, PlanRun run) {
  const ExecutionPlan first = plans.front();
  const cudnnHandle_t handle = libraries(context).cudnn.get();
  const auto given = share(std::move(run));
  const auto bind = [=](const Launch& l) -> std::function<void()> {
    const PlanTensors tensors = given->find(l);
    auto* workspace = first.workspace ? static_cast<std::byte*>(l.scratch) + given->scratch_bytes : nullptr;
    const auto pack = variant_pack(tensors.numbers, tensors.addresses, workspace);
    return [=, own = plans, taken = std::size_t{0}]() mutable {
      if (given->before) given->before(l);
      for (;; ++taken) {
        ExecutionPlan& plan = own[taken];
        if (!plan.plan) plan.plan = plan.make();
        const cudnnStatus_t status =
            plan.plan ? cudnnBackendExecute(handle, plan.plan->get(), pack->get()) : CUDNN_STATUS_NOT_SUPPORTED;
        if (status == CUDNN_STATUS_SUCCESS) break;
        if (taken + 1 < own.size()) continue;
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
