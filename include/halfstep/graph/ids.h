// Ids of the values and nodes of a graph: distinct types that convert neither to numbers nor to each other.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// An opaque id. A default-constructed id is none; it compares less than all others.
template <class Tag>
class Id {
 public:
  constexpr Id() = default;  ///< none
  constexpr explicit Id(std::size_t index) : number_(static_cast<std::int32_t>(index)) {}

  /// Index in a list with an element for each id. The index of none is beyond the end of every list.
  constexpr std::size_t index() const { return static_cast<std::size_t>(number_); }

  constexpr auto operator<=>(const Id&) const = default;  // NOLINT(modernize-use-nullptr): its 0 is no pointer

 private:
  std::int32_t number_ = -1;
};

/// A value in its graph. Stable for the graph's lifetime: values are never renumbered, only left unused.
using ValueId = Id<struct ValueTag>;
/// Represents an absent optional input or output.
inline constexpr ValueId kNoValue;

/// A node in its graph: assigned once by `Graph::add_node`, never reused, kept when nodes are reordered.
using NodeId = Id<struct NodeTag>;
inline constexpr NodeId kNoNode;

}  // namespace halfstep
/// @cond
template <class Tag>
struct std::hash<halfstep::Id<Tag>> {
  std::size_t operator()(halfstep::Id<Tag> id) const noexcept { return id.index(); }
};
/// @endcond
