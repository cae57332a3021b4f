// Types that only later nodes tell. Internal to conversion.
#pragma once

#include "conversion/model_view.h"

namespace halfstep::conversion {

/// Gives values of unknown type (results of unknown operators, and what is made of them) the type of the values that an
/// operator's schema says to be of the same one, or that a subgraph's boundary makes so: forwards and backwards, until
/// nothing more is learnt.
void unify_types(ModelView& view);

}  // namespace halfstep::conversion
