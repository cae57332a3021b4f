// Items by id.
#pragma once

#include <cassert>
#include <cstddef>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/ids.h>

namespace HALFSTEP_API halfstep {

/// The ids of indices 0 to `count` - 1, in order.
template <class Key>
class IdRange {
 public:
  class Iterator {
   public:
    using value_type = Key;
    using difference_type = std::ptrdiff_t;

    Iterator() = default;
    explicit Iterator(std::size_t index) : index_(index) {}
    Key operator*() const { return Key(index_); }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    Iterator operator++(int) { return Iterator(index_++); }
    bool operator==(const Iterator&) const = default;

   private:
    std::size_t index_ = 0;
  };

  explicit IdRange(std::size_t count) : count_(count) {}
  Iterator begin() const { return Iterator(0); }
  Iterator end() const { return Iterator(count_); }

 private:
  std::size_t count_;
};

/// An item for each id with an index below the size: a vector indexed by ids.
/// Example with a flag for each value of a graph: `ValueMap<bool> live(graph.values.size());`
template <class Key, class T>
class IdMap {
 public:
  IdMap() = default;
  explicit IdMap(std::size_t count, const T& item = T()) : items_(count, item) {}

  /// The id must be in the map; kNoValue never is.
  decltype(auto) operator[](Key id) {
    assert(contains(id));
    return items_[id.index()];
  }
  decltype(auto) operator[](Key id) const {
    assert(contains(id));
    return items_[id.index()];
  }
  bool contains(Key id) const { return id.index() < items_.size(); }

  std::size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  void resize(std::size_t count, const T& item = T()) { items_.resize(count, item); }
  /// Appends an item and returns its id.
  Key add(T item) {
    items_.push_back(std::move(item));
    return Key(items_.size() - 1);
  }

  /// The ids of the present items.
  IdRange<Key> ids() const { return IdRange<Key>(items_.size()); }
  // The items in the order of their ids.
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<T> items_;
};

template <class T>
using ValueMap = IdMap<ValueId, T>;
template <class T>
using NodeMap = IdMap<NodeId, T>;

}  // namespace halfstep
