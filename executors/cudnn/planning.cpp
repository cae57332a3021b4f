#include "executors/cudnn/planning.h"

namespace halfstep::cudnn {

static thread_local int planners = 0;

PlanningOnly::PlanningOnly() { ++planners; }
PlanningOnly::~PlanningOnly() { --planners; }
bool is_planning_only() { return planners > 0; }

}  // namespace halfstep::cudnn
