// Kernels that run plans of cuDNN's graph API.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "executors/cudnn/fastest.h"
#include "executors/cudnn/plan_cache.h"

namespace halfstep::cudnn {

/// Plans of a graph, of which the fastest is taken, and the others are for the case that it fails when it runs.
inline constexpr std::size_t kPlans = 8;

/// The tensors of a run.
struct PlanTensors {
  std::vector<std::int64_t> numbers;
  std::vector<void*> addresses;

  void add(std::int64_t number, const void* address) {
    numbers.push_back(number);
    addresses.push_back(const_cast<void*>(address));
  }
};

struct PlanRun {
  std::string what;         ///< "convolution"
  std::string remark = {};  ///< of the plan's entry, before the workspace
  /// Kept as long as the kernel, with all that it holds.
  std::function<PlanTensors(const Launch&)> find;
  std::function<void(const Launch&)> before = {}, after = {};
  std::size_t scratch_bytes = 0;  ///< in front of the workspace
  std::size_t compilations = 1;   ///< of candidates that are timed
  std::vector<core::Layout> in_layouts = {}, out_layouts = {};
};

/// A candidate for each plan. It runs that plan, and from then on the next one when cuDNN refuses it; where it refuses
/// all, the next run begins with the first again: what was wrong, as little memory, may be over.
std::vector<Candidate> plan_candidates(KernelContext& context, const Plans& plans, PlanRun run);

/// The fastest of them.
Made run_plans(KernelContext& context, const Plans& plans, PlanRun run);

/// `what`: "convolution".
Made refuse_without(const Plans& none, std::string_view what);

}  // namespace halfstep::cudnn
