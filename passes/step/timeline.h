// The nodes of a step in their order, some of them more than once, and which values live when.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/passes/step/recompute.h>

namespace halfstep {

/// What the name of a copy ends in.
inline constexpr std::string_view kAgain = ".again";

/// One giving of a value: that of the value's own node, which has the value's index, or of a copy of it.
using Instance = std::size_t;
inline constexpr Instance kNoInstance = static_cast<Instance>(-1);

/// A node at its place in the order, or a copy of it.
struct Item {
  std::size_t node = 0;  ///< its index in the graph
  bool again = false;    ///< a copy
  std::vector<Instance> inputs, outputs;
};

struct Order {
  std::vector<Item> items;
  std::vector<ValueId> value_of;  ///< by instance

  explicit Order(const Graph& graph);
  Instance add_instance(ValueId value) {
    value_of.push_back(value);
    return value_of.size() - 1;
  }
};

/// What a node's kernel needs; that of a copy is its node's.
const KernelUse& use_of(const KernelUses& kernels, std::string_view name);

/// Whether the kernel reads this input of its node.
bool reads(const KernelUse& use, std::size_t input);

/// What does not depend on the order.
struct ValueFacts {
  std::size_t bytes = 0;  ///< of a value in the step's memory; 0: it is kept all the time, or is a view
  bool is_kept = false;   ///< a constant, a state, an input; or it leaves the graph, or a view of it does
};
ValueMap<ValueFacts> value_facts(const Graph& graph);

/// Whether a node's result is its operand's memory.
bool is_view_of_operand(const Node& node);

/// Of an instance with its views: the items between which it lives, by their places.
struct Life {
  bool is_made = false;            ///< an item gives it
  Instance root = kNoInstance;     ///< what it is a view of; itself where it is none
  std::size_t first = 0;           ///< the item that gives it
  std::vector<std::size_t> reads;  ///< items that do, ascending; of a view none: they are its root's

  std::size_t last() const { return reads.empty() ? first : reads.back(); }
};

struct Timeline {
  std::vector<Life> lives;        ///< by instance
  std::vector<std::size_t> live;  ///< bytes at each item
  std::size_t fullest = 0;        ///< the item at which they are the most

  Timeline(const Graph& graph, const ValueMap<ValueFacts>& facts, const KernelUses& kernels, const Order& order);
  std::size_t most() const { return live.empty() ? 0 : live[fullest]; }
};

}  // namespace halfstep
