// The order of nodes, and the states that may be updated in place.
#pragma once

#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Whether a node's output has the elements of its input, with another shape, axis order or name.
bool is_view(const Node& node);
/// Whether it is a view in which the elements keep their row-major order.
bool keeps_order(const Node& node);
/// For each value, the value of which it is a view, through views and lazy casts (see below); otherwise itself.
ValueMap<ValueId> view_roots(const Graph& graph);

struct Schedule {
  std::vector<std::size_t> order;   ///< indices into Graph::nodes
  ValueMap<std::int32_t> last_use;  ///< position in `order` of the last reader, through views; -1: none
  std::vector<bool> in_place;       ///< per state: every reader of the old value runs before the new one is made
  ValueMap<bool> is_lazy;           ///< see below
};

// A conversion of a float state, or of a view of one, to another float type is lazy: it is added when its result is
// first read, in the layout that the reader requests, so that the state can be stored in that layout.

/// Position beyond the last node: the time when outputs and states are copied.
inline constexpr std::int32_t kAtEnd = 1 << 30;

/// A topological order that keeps the graph's order if possible, and moves nodes that compute a state's next value
/// after all readers of the present one. `precedences`: of Device::precedences.
Schedule make_schedule(const Graph& graph, const std::vector<std::pair<std::size_t, std::size_t>>& precedences = {});

}  // namespace core
}  // namespace halfstep
