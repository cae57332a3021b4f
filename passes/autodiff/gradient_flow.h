// Where gradients end on their way from the loss to the parameters.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// Indices of the nodes that keep a parameter (a state) from its gradient: no rule is known for them, and they lie
/// between a parameter and an output. Differentiating such a graph fails.
std::vector<std::size_t> blocking_nodes(const Graph& graph);

/// A parameter whose gradient is zero whatever the batch: every way to a target goes through an operator whose result
/// does not change smoothly with the operand (Round, ArgMax, a Cast to integers), or there is none.
struct CutOff {
  ValueId parameter = kNoValue;
  std::vector<std::size_t> nodes = {};  ///< such operators, the first on each way
};
/// The parameters (states) of `graph` that are cut off from all of `targets`.
std::vector<CutOff> cut_off_parameters(const Graph& graph, const std::vector<ValueId>& targets);

/// "'w' gets no gradient and stays as it is: none passes through Round 'r'", of all at once; empty when there are none.
std::string describe_cut_off(const Graph& graph, const std::vector<CutOff>& parameters);

}  // namespace halfstep
