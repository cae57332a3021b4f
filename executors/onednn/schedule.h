// The order nodes run in, and which states may be updated where they lie.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace halfstep::onednn {

/// Whether a node's output is its input under another shape, order of axes or name.
bool is_view(const Node& node);

struct Schedule {
  std::vector<std::size_t> order;      ///< indices into Graph::nodes
  std::vector<std::int32_t> last_use;  ///< per value: position in `order` of the last reader, through views; -1: none
  std::vector<bool> in_place;          ///< per state: every reader of the old value runs before the new one is made
  std::vector<bool> is_lazy;           ///< per value: see below
};

// A conversion of a float state, or of a view of one, to another float type is lazy: it is made when its result is
// first read, in the layout the reader asks for, so that the state can take that layout.

/// Position beyond the last node: the time when outputs and states are copied.
inline constexpr std::int32_t kAtEnd = 1 << 30;

/// Topological order that keeps the graph's order where it can, and moves the nodes that make a state's next value
/// behind all readers of the present one, and a bias' gradient behind the weight's that can compute it along.
Schedule make_schedule(const Graph& graph);

}  // namespace halfstep::onednn
