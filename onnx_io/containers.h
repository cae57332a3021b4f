// Sequences and optional values. A Graph has tensors only: while a model is read, its containers are taken apart.
//
// The number of elements of every sequence, and which optional values are there, must follow from the model: from
// constants, from known shapes, from the numbers of iterations of loops with a known course (such loops are written
// out). Then a sequence is a list of values, SequenceAt is one of them, ConcatFromSequence is a Concat of all.
#pragma once

#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

class LiftContext;

/// What a value that is no tensor is made of. An optional value that is present is what it holds.
struct Container {
  bool is_present = true;           ///< false: an optional value that holds nothing
  std::vector<ValueId> elements{};  ///< of a sequence, in order
};
using Containers = std::unordered_map<ValueId, Container>;

/// What becomes of a node that makes, changes or reads containers: it is replaced by nodes over tensors, or none.
struct ContainerRule {
  std::string_view op;
  void (*resolve)(LiftContext&, const Node&);
};
std::span<const ContainerRule> container_rules();

/// The operators of ai.onnx that exist for the sake of containers, in alphabetical order: those with a rule except
/// Identity, and SequenceMap.
std::vector<std::string_view> container_operators();
bool is_container_operator(std::string_view op);

/// Whether the graph, or a body in it, has such an operator.
bool has_container_operators(const Graph& graph);

/// Throws Error(input): the node's containers do not follow from the model.
[[noreturn]] void refuse_container(const Node& node, std::string required, std::string found);

}  // namespace halfstep
