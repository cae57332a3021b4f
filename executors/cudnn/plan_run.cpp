#include "executors/cudnn/plan_run.h"

#include <algorithm>

#include <fmt/format.h>

#include "executors/cudnn/pending_failure.h"

namespace halfstep::cudnn {
namespace {

/// What the kernels of all candidates hold.
struct Held {
  std::vector<ExecutionPlan> plans;
  PlanRun run;
  cudnnHandle_t handle;

  std::shared_ptr<const BackendDescriptor> pack(const Launch& l, std::size_t workspace) const {
    const PlanTensors tensors = run.find(l);
    auto* const place = workspace ? static_cast<std::byte*>(l.scratch) + run.scratch_bytes : nullptr;
    return variant_pack(tensors.numbers, tensors.addresses, place);
  }
  cudnnStatus_t execute(std::size_t plan, const BackendDescriptor& pack, std::size_t workspace) const {
    const ExecutionPlan::Built built = plans[plan].built();
    if (!built.plan || built.workspace > workspace) return CUDNN_STATUS_NOT_SUPPORTED;
    const cudnnStatus_t status = cudnnBackendExecute(handle, built.plan->get(), pack.get());
    if (status != CUDNN_STATUS_SUCCESS) forget_failure();
    return status;
  }
  void before(const Launch& l) const {
    if (run.before) run.before(l);
  }
  void after(const Launch& l) const {
    if (run.after) run.after(l);
  }
};

std::function<void()> run_from(const std::shared_ptr<const Held>& held, std::size_t first, const Launch& l) {
  const std::size_t workspace = held->plans[first].built().workspace, count = held->plans.size();
  // Those behind the first follow it, then those before it.
  return [=, pack = held->pack(l, workspace), failed = std::size_t{0}]() mutable {
    held->before(l);
    for (;; ++failed) {
      const cudnnStatus_t status = held->execute((first + failed) % count, *pack, workspace);
      if (status == CUDNN_STATUS_SUCCESS) break;
      const bool is_sick = cudaPeekAtLastError() != cudaSuccess;  // every later call fails, too
      if (failed + 1 < count && !is_sick) continue;
      failed = 0;
      check(status, "cudnnBackendExecute");
    }
    held->after(l);
  };
}

Attempt attempt(const std::shared_ptr<const Held>& held, std::size_t plan, const Launch& l) {
  const std::size_t workspace = held->plans[plan].built().workspace;
  return [=, pack = held->pack(l, workspace)] {
    held->before(l);
    if (held->execute(plan, *pack, workspace) != CUDNN_STATUS_SUCCESS) return false;
    held->after(l);
    return true;
  };
}

}  // namespace

std::vector<Candidate> plan_candidates(KernelContext& context, const Plans& plans, PlanRun run) {
  const auto held = share(Held{plans.list, std::move(run), libraries(context).cudnn.get()});
  std::vector<Candidate> candidates;
  std::size_t compiled = 0;
  for (std::size_t i = 0; i < held->plans.size(); ++i) {
    const ExecutionPlan& plan = held->plans[i];
    const auto complete = [=](DeviceKernel& kernel) -> std::string {
      const ExecutionPlan::Built built = held->plans[i].built();
      if (!built.plan) return fmt::format("cuDNN refuses its plan for this {}", held->run.what);
      const std::string& notes = held->plans[i].notes;
      kernel.remark =
          fmt::format("{}{}{}workspace {} bytes", notes, notes.empty() ? "" : ", ", held->run.remark, built.workspace);
      kernel.scratch_bytes = held->run.scratch_bytes + built.workspace;
      return {};
    };
    candidates.push_back({.kernel = {.name = fmt::format("cudnn: {}, engine {}", held->run.what, plan.engine),
                                     .bind = [=](const Launch& l) { return run_from(held, i, l); },
                                     .in_layouts = held->run.in_layouts,
                                     .out_layouts = held->run.out_layouts},
                          .name = plan.name,
                          .is_timed = !plan.is_compiled || ++compiled <= held->run.compilations,
                          .complete = complete,
                          .attempt = [=](const Launch& l) { return attempt(held, i, l); }});
  }
  return candidates;
}

Made run_plans(KernelContext& context, const Plans& plans, PlanRun run) {
  return fastest(context, plan_candidates(context, plans, std::move(run)));
}

Made refuse_without(const Plans& none, std::string_view what) {
  return refuse(none.refusal.empty() ? fmt::format("cuDNN's graph API has no plan for this {}", what) : none.refusal);
}

}  // namespace halfstep::cudnn
