// Which values meet a parameter element by element: they had best lie as it does.
#pragma once

#include <halfstep/graph/graph.h>

namespace halfstep::core {

/// For each value the parameter that it meets on the way to that parameter's next value, found by walking back from
/// there through nodes that keep the parameter's shape; kNoValue for others. An optimizer's node joins each parameter
/// with its own gradient.
ValueMap<ValueId> find_met_states(const Graph& graph);

}  // namespace halfstep::core
