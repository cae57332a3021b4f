// Changes of operators up to version 7; later ones are in lift_rules.cpp.
#pragma once

#include <vector>

#include "onnx_io/lift.h"

namespace halfstep {

/// The rules whose `below` is at most 7, those of one operator in order.
std::vector<LiftRule> early_lift_rules();

}  // namespace halfstep
