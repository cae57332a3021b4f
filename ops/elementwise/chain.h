// Several elementwise operators as one node.
#pragma once

#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// The operator of ai.halfstep. Its body, a graph, gives the node's results from its operands by elementwise operators
/// whose results all have one shape; it captures nothing.
inline constexpr std::string_view kChain = "ElementwiseChain", kChainBody = "body";

/// The body with the types that the node's operands in `graph` give it. Throws Error where they do not fit.
Graph typed_chain_body(const Graph& graph, const Node& chain);

/// The operator's row, a part of the family of binary operators.
std::vector<OpDef> chain_rows();

}  // namespace ops
}  // namespace halfstep
