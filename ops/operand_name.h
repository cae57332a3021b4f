// Names of an operator's inputs.
#pragma once

#include <cstddef>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// The name of input `index` of `node` in the operator's schema: "W" for input 1 of Conv, "inputs" for any of Concat.
/// "input 3" if there is no such schema, or the input is a capture of the node's bodies.
std::string operand_name(const Node& node, std::size_t index);

}  // namespace halfstep
