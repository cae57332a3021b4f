// What a state and the values that go with it must have in common. Internal.
#pragma once

#include <string>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// The next value is written where the state lies, so it is of the state's type and shape; a gradient is of the same
/// shape, in any float type, and so is the source of a copy, a state that is none. What breaks this, as far as types
/// and shapes are known; "" where nothing does.
std::string state_misfit(const Graph& graph, const State& state);

}  // namespace halfstep
