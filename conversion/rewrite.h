// Applies a plan to the message. Internal to conversion.
#pragma once

#include "conversion/model_view.h"
#include "conversion/plan.h"

namespace halfstep::conversion {

/// For each constant: whether it has a copy in half, and one in f32.
struct RewrittenConstants {
  ValueMap<bool> half, f32;
};

/// Changes the message of `view` (the nodes' messages are moved: afterwards only their names are valid): the types of
/// constants, inputs and outputs, and the fewest casts, each in the graph that defines its operand.
RewrittenConstants rewrite(const ModelView& view, const ConversionPlan& plan, DType half);

}  // namespace halfstep::conversion
