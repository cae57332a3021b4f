// The text of a kernel that computes elementwise operators in one pass over memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "executors/cudnn/kernel_text.h"
#include "executors/cudnn/kernels/chain_arguments.h"
#include <halfstep/graph/graph.h>

namespace halfstep::cudnn {

/// How an operand lies to the result.
struct ChainOperand {
  enum class Kind {
    unread,
    whole,   ///< element for element
    single,  ///< one element for all
    spread,  ///< broadcast, each element's place computed by itself
    row,     ///< broadcast, the elements of one vector in one row along the innermost axis
    packed,  ///< the same, and next to each other in memory
  };
  Kind kind = Kind::unread;
  std::size_t walk = 0;  ///< of one that is broadcast: its place in ChainArguments::steps
};

/// A kernel that is still to be compiled, and all of its argument but the addresses.
struct ChainKernelText {
  std::string refusal;  ///< why there is none; nothing else is set then
  KernelText kernel;
  ChainArguments arguments{};
  std::vector<ChainOperand> operands;    ///< of the body's inputs
  std::vector<std::uint32_t> alignment;  ///< of each operand, then of each result, for vectors; bytes
  unsigned vector = 1;                   ///< elements that a thread takes at once
};

/// Whether the text can hold the node: of an operator with a formula, all of its types those of the device.
bool chain_holds(const Graph& graph, const Node& node);

/// Of a graph whose nodes give values of one shape, from inputs that are broadcast to it, as the body of
/// ai.halfstep.ElementwiseChain is. `is_wanted(k)`: whether output k is to be written.
ChainKernelText chain_text(const Graph& body, const std::function<bool(std::size_t)>& is_wanted);

/// A node as such a graph, and which of the node's operands its inputs are.
struct BodyOfNode {
  Graph body;
  std::vector<std::size_t> operands = {};
};
BodyOfNode body_of_node(const Graph& graph, const Node& node);

}  // namespace halfstep::cudnn
