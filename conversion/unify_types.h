// Types that are only known from later nodes. Internal to conversion.
#pragma once

#include "conversion/model_view.h"

namespace halfstep::conversion {

/// Values of unknown type (results of unknown operators, and of nodes that read these) get the type of values that must
/// have the same type according to an operator's schema or a subgraph's boundary: forwards and backwards, until nothing
/// changes.
void unify_types(ModelView& view);

}  // namespace halfstep::conversion
