// What is known of each value of a graph.
#pragma once

#include <cstddef>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// An item for each value that a graph has when this is made, found by the value's id; kNoValue has none.
template <class T>
class ValueMap {
 public:
  explicit ValueMap(const Graph& graph, const T& item = T()) : items_(graph.values.size(), item) {}

  decltype(auto) operator[](ValueId id) { return items_[static_cast<std::size_t>(id)]; }
  decltype(auto) operator[](ValueId id) const { return items_[static_cast<std::size_t>(id)]; }
  /// Whether there is an item for it: the id of a value that was there, and not kNoValue.
  bool contains(ValueId id) const { return static_cast<std::size_t>(id) < items_.size(); }
  std::size_t size() const { return items_.size(); }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<T> items_;
};

}  // namespace halfstep
