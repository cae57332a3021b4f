// What an operator calls its inputs.
#pragma once

#include <cstddef>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// The name that the operator's schema gives input `index` of `node`: "W" for input 1 of Conv, "inputs" for any of
/// Concat. "input 3" where there is no such schema, or the input is a capture of the node's bodies.
std::string operand_name(const Node& node, std::size_t index);

}  // namespace halfstep
