// Carries out a plan on the message. Internal to conversion.
#pragma once

#include "conversion/model_view.h"
#include "conversion/plan.h"

namespace halfstep::conversion {

/// What became of the constants: whether there is a copy in half, and one in f32.
struct RewrittenConstants {
  ValueMap<bool> half, f32;
};

/// Changes the message that `view` looks at (the nodes' messages are moved: only their names are of use afterwards):
/// types of constants, inputs and outputs, and the fewest casts, each in the graph that defines what it casts.
RewrittenConstants rewrite(const ModelView& view, const ConversionPlan& plan, DType half);

}  // namespace halfstep::conversion
