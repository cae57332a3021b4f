// The bodies of If, Loop and Scan: graphs among a node's attributes.
#pragma once

#include <functional>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

bool has_body(const Node& node);

/// The node's bodies in the order of its attributes. Valid until its attributes change.
std::vector<const Graph*> bodies(const Node& node);

/// Replaces every body by a modified copy (bodies are shared between copies of a graph).
void change_bodies(Node& node, const std::function<void(Graph&)>& change);

/// Sets the node's captures: `captured[b]` pairs values of the enclosing graph with values of body b (in the order of
/// `bodies`). A value of the enclosing graph that several bodies read is captured once.
void set_captures(Node& node, const std::vector<std::vector<std::pair<ValueId, ValueId>>>& captured);

/// A value of `graph` for body `body` (an index into `bodies(node)`) to read; returns the value that represents it
/// there.
ValueId add_capture(const Graph& graph, Node& node, std::size_t body, ValueId outside);

/// Removes captures that no body reads any more.
void drop_unread_captures(Node& node);

/// Moves constants out of the bodies of `node` into `graph`, as captures: all, or only the initializers.
void hoist_constants(Graph& graph, Node& node, bool only_initializers);

/// Small constants of `graph` that `body`, one of the bodies of `node`, captures become constants of the body: those
/// used for shapes, axes and indices. `only_integers` (and booleans): none that could be a parameter. The captures
/// remain, unread.
void copy_small_constants(const Graph& graph, const Node& node, Graph& body, bool only_integers);

/// The values that replace the inputs, captures and outputs of a body at its copy; kNoValue for an absent input, and
/// for an output that needs no separate value.
struct BodyArguments {
  std::vector<ValueId> inputs{}, captures{}, outputs{};
};

/// Appends copies of the nodes of `body` to `graph`, with values replaced according to `arguments`; new values and
/// nodes are named `prefix` + their name. Returns the values of `graph` that are the outputs.
std::vector<ValueId> append_copy(Graph& graph, const Graph& body, const BodyArguments& arguments,
                                 std::string_view prefix);

}  // namespace halfstep
