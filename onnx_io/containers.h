// Sequences and optional values. A Graph only has tensors: containers are replaced by their elements during loading.
//
// The length of every sequence, and the presence of optional values, must follow from the model: from constants, known
// shapes, and the trip counts of loops whose course is known (such loops are unrolled). Then a sequence is a list of
// values, SequenceAt is one of them, and ConcatFromSequence is a Concat of all.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

class LiftContext;

/// The contents of a value that is not a tensor. A present optional value has the contents of its element.
struct Container {
  bool is_present = true;           ///< false: an empty optional value
  std::vector<ValueId> elements{};  ///< of a sequence, in order
};
using Containers = std::unordered_map<ValueId, Container>;

/// The rule for a node that creates, changes or reads containers: it is replaced by nodes over tensors, or by none.
struct ContainerRule {
  std::string_view op;
  void (*resolve)(LiftContext&, const Node&);
};
std::span<const ContainerRule> container_rules();

/// The operators of ai.onnx for containers, in alphabetical order: those with a rule except Identity, and SequenceMap.
std::vector<std::string_view> container_operators();
bool is_container_operator(std::string_view op);

/// Whether the graph, or a body in it, contains such an operator.
bool has_container_operators(const Graph& graph);

/// Counts `more` elements of lists that the node makes. Throws Error(input) where those of all lists of a graph become
/// too many: each list has its own copy.
void count_elements(LiftContext& lift, const Node& node, std::size_t more);

/// Throws Error(input): the node's containers do not follow from the model.
[[noreturn]] void refuse_container(const Node& node, std::string required, std::string found);

}  // namespace halfstep
