// Control flow whose course is known at compile.
#pragma once

#include <halfstep/passes/pass.h>

namespace halfstep {

/// Initializers inside the bodies of If, Loop and Scan move to the graph itself, under their names: there they can
/// become parameters.
Pass hoist_initializers();

/// Folds constants, and replaces an If whose condition is a constant by its branch, and a Loop or Scan whose number of
/// iterations is known by copies of its body; again, until nothing changes. What is left runs in the reference executor
/// and has no gradient.
Pass inline_control_flow();

}  // namespace halfstep
