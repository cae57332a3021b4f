// Old operator sets brought to the newest form of each operator, on our own Graph.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "onnx_io/containers.h"
#include <halfstep/graph/graph.h>

namespace halfstep {

/// Oldest operator set of ai.onnx that is read.
inline constexpr std::int64_t kOldestOnnxOpset = 1;

/// What a rewrite of one node may do to the graph around it. Nodes it adds are in the newest form.
class LiftContext {
 public:
  virtual ~LiftContext() = default;
  virtual Graph& graph() = 0;
  /// A node with one output that comes before the node being lifted.
  ValueId before(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    const ValueId output = value(op);
    give(op, std::move(inputs), {output}, std::move(attributes));
    return output;
  }
  /// The same with the outputs named.
  virtual void give(std::string_view op, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
                    Attributes attributes = {}) = 0;
  /// Whoever reads `value` from now on reads `by`.
  virtual void replace(ValueId value, ValueId by) = 0;
  /// What the values that are no tensors consist of.
  virtual Containers& containers() = 0;
  /// A node that comes after the node being lifted and gives `output`.
  virtual void after(std::string_view op, std::vector<ValueId> inputs, ValueId output, Attributes attributes = {}) = 0;
  /// A constant named after the node being lifted.
  virtual ValueId constant(std::string_view suffix, Tensor tensor) = 0;
  /// A new value named after the node being lifted, to be an output of it.
  virtual ValueId value(std::string_view suffix) = 0;
  /// Whether any node, subgraph or graph output reads the value.
  virtual bool is_read(ValueId id) const = 0;
  /// Throws Error(input): the old form has no equivalent in the newest.
  [[noreturn]] virtual void refuse(std::string required, std::string found) const = 0;
};

/// One change of an operator of ai.onnx: `rewrite` turns a node of a version below `below` into the form that `below`
/// brought. The rules of one operator stand in order of `below`; a node runs through all that its version is below of.
struct LiftRule {
  std::string_view op;
  std::int64_t below;
  void (*rewrite)(LiftContext&, Node&);
};

std::span<const LiftRule> lift_rules();

/// Brings a graph from the versions in `graph.opsets` to `kOnnxOpset`, subgraphs included, takes its containers apart
/// (a sequence that is an output becomes outputs NAME.0, NAME.1, …), and sets the type and shape of every value. Throws
/// Error(input) where operands do not fit or a form has no equivalent.
void lift_operators(Graph& graph);

/// The same; in addition operators without a row in the table are replaced by the function body of their schema.
/// Throws Error(input) that lists *all* operators that are still not supported, with the names of their nodes.
void lift_to_supported(Graph& graph);

}  // namespace halfstep
