// The shape of a Loop or Scan node: which operands and results are carried, which are scanned.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace halfstep {

inline bool is_control_flow(const Node& node) { return node.is("If") || node.is("Loop") || node.is("Scan"); }

/// The body of that name. Throws Error(input) when the node lacks it.
const Graph& body_of(const Node& node, std::string_view attribute);

/// How the operands and results of a Loop or Scan correspond to its body's.
struct LoopForm {
  const Graph* body;
  std::size_t states;         ///< values carried from one iteration to the next
  std::size_t scan_inputs;    ///< sliced, one slice an iteration; none in a Loop
  std::size_t scan_outputs;   ///< stacked, one slice an iteration
  std::size_t first_operand;  ///< of the node's operands the first that is a state: 2 in a Loop, after M and cond
  std::size_t first_input;    ///< of the body's inputs the first that is a state: 2 in a Loop, after i and cond
  std::size_t first_output;   ///< of the body's outputs the first that is a state: 1 in a Loop, after cond
  // Per scan input and output: the axis as the node gives it (0 in a Loop), and whether it is walked from the end.
  std::vector<std::int64_t> input_axes, output_axes;
  std::vector<bool> input_reversed, output_reversed;
};

/// Throws Error(input) when the numbers of operands, results and attributes do not fit each other.
LoopForm loop_form(const Node& node);

/// A branch of an If that does not fit, which matters only if it is taken: it becomes one node, ai.halfstep.Fail, that
/// throws `error` when it runs. Its captures stay, unread, and so do the types of its results.
void make_failing(Graph& branch, const Error& error);
bool is_failing(const Graph& branch);

/// Sets what is known beforehand of the types of a body's inputs and captures. Extents of values that a Loop carries
/// are left unknown, since they may change.
void type_body_inputs(const Graph& graph, const Node& node, Graph& body);

/// Type and shape inference of If, Loop and Scan, by inference of their bodies, which keep their types. A branch whose
/// inference fails is made failing, unless it is known to be taken, or the other fails as well. Shapes of
/// carried values that change from one iteration to the next become unknown where they do. A scan output's extent is
/// the trip count where that is known. Throws Error(input) where operands, bodies and results do not fit, and where
/// results are no tensors.
void infer_control_flow(Graph& graph, Node& node);

/// The number of iterations a Loop makes, when that follows from constants alone: the trip count and, as long as it
/// depends on nothing but constants, the condition. kUnknownTrips when it does not, or when counting takes more than
/// `most` iterations.
inline constexpr std::int64_t kUnknownTrips = -1;
std::int64_t constant_trips(const Graph& graph, const Node& loop, std::int64_t most);

}  // namespace halfstep
