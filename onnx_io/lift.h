// Converts old opsets to the newest form of each operator, on a Graph.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "onnx_io/containers.h"
#include <halfstep/graph/graph.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {

/// Oldest operator set of ai.onnx that is read.
inline constexpr std::int64_t kOldestOnnxOpset = 1;

/// Operations on the surrounding graph for the rewrite of a node. Nodes that it adds are in the form of `opset`.
class LiftContext {
 public:
  virtual ~LiftContext() = default;
  virtual Graph& graph() = 0;
  /// A node with one output, before the node being lifted.
  ValueId before(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    const ValueId output = value(op);
    give(op, std::move(inputs), {output}, std::move(attributes));
    return output;
  }
  /// The same with the given output names.
  virtual void give(std::string_view op, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
                    Attributes attributes = {}) = 0;
  /// All readers of `value` read `by` from now on.
  virtual void replace(ValueId value, ValueId by) = 0;
  /// The contents of values that are not tensors.
  virtual Containers& containers() = 0;
  std::int64_t opset = kOnnxOpset;
  /// The elements of all lists that were made: see count_elements.
  std::size_t elements = 0;
  /// A node that comes after the node being lifted and gives `output`.
  virtual void after(std::string_view op, std::vector<ValueId> inputs, ValueId output, Attributes attributes = {}) = 0;
  /// A constant named after the node being lifted.
  virtual ValueId constant(std::string_view suffix, Tensor tensor) = 0;
  /// A new value named after the node being lifted, to be an output of it.
  virtual ValueId value(std::string_view suffix) = 0;
  /// Whether any node, subgraph or graph output reads the value.
  virtual bool is_read(ValueId id) const = 0;
  /// Throws Error(input): the old form has no equivalent in the newest version.
  [[noreturn]] virtual void refuse(std::string required, std::string found) const = 0;
};

/// A change of an operator of ai.onnx: `rewrite` converts a node of a version below `below` to the form of version
/// `below`. The rules of an operator are in order of `below`; a node goes through all rules with `below` above its
/// version.
struct LiftRule {
  std::string_view op;
  std::int64_t below;
  void (*rewrite)(LiftContext&, Node&);
};

std::span<const LiftRule> lift_rules();

/// Converts a graph from the versions in `graph.opsets` to `kOnnxOpset`, including subgraphs, replaces its containers
/// (a sequence that is an output becomes outputs NAME.0, NAME.1, …), and sets the type and shape of every value. Throws
/// Error(input) if operands do not fit or a form has no equivalent.
void lift_operators(Graph& graph);

/// The same, and operators without a row in the table are replaced by the function body of their schema. Throws
/// Error(input) that lists *all* operators that are still not supported, with the names of their nodes.
void lift_to_supported(Graph& graph);

}  // namespace halfstep
