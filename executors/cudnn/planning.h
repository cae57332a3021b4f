// Whether kernels are only planned: for a device that is described and not there.
#pragma once

namespace halfstep::cudnn {

/// In this thread, while one of them lives, kernels are chosen as if there were a driver and a compiler, and loaded
/// ones refuse to be launched.
class PlanningOnly {
 public:
  PlanningOnly();
  PlanningOnly(const PlanningOnly&) = delete;
  PlanningOnly& operator=(const PlanningOnly&) = delete;
  ~PlanningOnly();
};
bool is_planning_only();

}  // namespace halfstep::cudnn
