// The structure of a Loop or Scan node: which operands and results are carried, and which are scanned.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace halfstep {

inline bool is_control_flow(const Node& node) { return node.is("If") || node.is("Loop") || node.is("Scan"); }

/// The body with this name. Throws Error(input) if the node has none.
const Graph& body_of(const Node& node, std::string_view attribute);

/// The correspondence between the operands and results of a Loop or Scan and those of its body.
struct LoopForm {
  const Graph* body;
  std::size_t states;         ///< values carried between iterations
  std::size_t scan_inputs;    ///< sliced, one slice per iteration; none in a Loop
  std::size_t scan_outputs;   ///< stacked, one slice per iteration
  std::size_t first_operand;  ///< index of the node's first operand that is a state: 2 in a Loop, after M and cond
  std::size_t first_input;    ///< index of the body's first input that is a state: 2 in a Loop, after i and cond
  std::size_t first_output;   ///< index of the body's first output that is a state: 1 in a Loop, after cond
  // Per scan input and output: the axis given by the node (0 in a Loop), and whether it is traversed backwards.
  std::vector<std::int64_t> input_axes, output_axes;
  std::vector<bool> input_reversed, output_reversed;
};

/// Throws Error(input) if the numbers of operands, results and attributes are inconsistent.
LoopForm loop_form(const Node& node);

/// Handles a branch of an If that does not fit, which only matters if it is taken: it becomes one node,
/// ai.halfstep.Fail, that throws `error` when it runs. Its captures stay, unread, and so do the types of its results.
void make_failing(Graph& branch, const Error& error);
bool is_failing(const Graph& branch);

/// Sets the known types of a body's inputs and captures. Extents of values that a Loop carries stay unknown, since they
/// may change.
void type_body_inputs(const Graph& graph, const Node& node, Graph& body);

/// Type and shape inference of If, Loop and Scan, by inference of their bodies, which keep their types. A branch whose
/// inference fails is replaced by one that fails at run time, unless it is known to be taken, or the other one fails as
/// well. Shapes of carried values that change between iterations become unknown in the changing extents. A scan
/// output's extent is the trip count if that is known. Throws Error(input) if operands, bodies and results do not fit,
/// and if results are not tensors.
void infer_control_flow(Graph& graph, Node& node);

/// The number of iterations of a Loop, if it follows from constants only: the trip count and, as long as it depends
/// only on constants, the condition. kUnknownTrips if it does not, or if counting takes more than `most` iterations.
inline constexpr std::int64_t kUnknownTrips = -1;
std::int64_t constant_trips(const Graph& graph, const Node& loop, std::int64_t most);

}  // namespace halfstep
