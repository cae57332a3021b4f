// The graph: a model after loading and before compilation, independent of file formats and devices.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/graph/attribute.h>
#include <halfstep/graph/id_map.h>
#include <halfstep/graph/ids.h>
#include <halfstep/graph/shape.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

inline constexpr std::string_view kOnnxDomain = "";
inline constexpr std::string_view kOwnDomain = "ai.halfstep";

/// Kind of an initializer, if the exporter declares it.
enum class Declared : std::uint8_t { nothing, parameter, buffer };

/// An edge of the graph: a tensor with a name that is unique in its graph.
struct Value {
  std::string name;
  DType dtype = DType::undefined;
  Shape shape = Shape::unranked();
  /// The elements, if they are known at compile time; otherwise undefined.
  Tensor constant;
  /// The constant is an initializer in the source model, not a Constant node: it may be a parameter.
  bool is_initializer = false;
  Declared declared = Declared::nothing;

  bool is_constant() const { return constant.is_defined(); }
};

/// One operator applied to values.
struct Node {
  NodeId id = kNoNode;
  std::string op;                        ///< ONNX operator type: "Conv"
  std::string domain;                    ///< "" for ai.onnx, "ai.halfstep" for custom operators
  std::string name;                      ///< name in the source model, or a generated one
  std::vector<ValueId> inputs, outputs;  ///< kNoValue for an absent optional one
  /// Number of captures: the last `inputs`, which are not operands of the operator but values of this graph that its
  /// bodies (If, Loop, Scan) read. Code that follows uses treats them like any input. See Graph::captures.
  std::size_t capture_count = 0;
  Attributes attributes;
  /// For a gradient node, the node that it differentiates, so that the kernels of the two can share private state.
  NodeId forward = kNoNode;

  bool is(std::string_view type, std::string_view in_domain = kOnnxDomain) const {
    return op == type && domain == in_domain;
  }
  bool is_own(std::string_view type) const { return is(type, kOwnDomain); }
  /// The inputs defined by the operator's schema.
  std::span<const ValueId> operands() const { return std::span(inputs).first(inputs.size() - capture_count); }
  /// The inputs read only by the bodies.
  std::span<const ValueId> captures() const { return std::span(inputs).last(capture_count); }
  ValueId input(std::size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
  ValueId output(std::size_t i) const { return i < outputs.size() ? outputs[i] : kNoValue; }
};

/// One use of a value as an input of a node.
struct Use {
  std::size_t node = 0;   ///< index in Graph::nodes
  std::size_t input = 0;  ///< of that node

  auto operator<=>(const Use&) const = default;
};

/// The nodes of a graph: a read-only sequence. Nodes are changed by functions of the graph, which tracks producers and
/// users.
class NodeList {
 public:
  std::size_t size() const { return list_.size(); }
  bool empty() const { return list_.empty(); }
  const Node& operator[](std::size_t i) const { return list_[i]; }
  const Node& at(std::size_t i) const { return list_.at(i); }
  const Node& front() const { return list_.front(); }
  const Node& back() const { return list_.back(); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }
  auto rbegin() const { return list_.rbegin(); }
  auto rend() const { return list_.rend(); }

 private:
  friend class Graph;
  std::vector<Node> list_;
};

/// Purpose of a state; used by the trainer, checkpoints and printing.
enum class StateRole {
  parameter,    ///< trained by the optimizer
  statistic,    ///< written by the forward pass: BatchNormalization's running mean and variance
  optimizer,    ///< moments, step counter
  loss_scale,   ///< scale and its counter of good steps
  accumulator,  ///< sum of gradients over several batches
  random,       ///< counter of the random number generator
  residual,     ///< rounding error of a rank's gradients, to be added to the next ones
  copy,         ///< of another state, in a half type: see State::source
};
std::string_view name_of(StateRole role);

/// A tensor that persists across steps: the current value, and the value that replaces it after the step.
struct State {
  ValueId value = kNoValue;
  ValueId next = kNoValue;  ///< kNoValue if nothing updates it
  StateRole role = StateRole::parameter;
  Tensor initial;  ///< value before the first step; of a copy only its type and shape
  /// Gradient of the loss with respect to a parameter, from `differentiate` until an optimizer has used it.
  ValueId gradient = kNoValue;
  /// The value of the state that a copy is of. When a step begins, a copy is the Cast of that value, whatever changed
  /// it; `next` saves an executor from making it anew. A copy is no part of what is saved.
  ValueId source = kNoValue;
};

/// Role of a value in a training step. Passes, and code that runs the step, find values by their role, independently
/// of names.
enum class StepRole : std::uint8_t {
  // Results of the step.
  loss,              ///< a scalar
  term,              ///< one term of a loss with several, unweighted
  prediction,        ///< for each term, the model output that it is computed from
  output,            ///< an output of the model, in its order; excludes an output that is the loss
  loss_gradient,     ///< the initial gradient of backpropagation
  gradient_norm,     ///< of all gradients together; with a parameter, of its gradient
  gradients_finite,  ///< whether all gradients are finite
  // Operands of the step: inputs and states.
  labels,
  sample_weights,
  learning_rate,
  loss_weight,  ///< factor for this batch's gradients
  first,        ///< whether this batch's gradients replace the present sums
  update,       ///< whether this batch completes an update
  loss_scale,   ///< the scale used by this step
  updates,      ///< number of updates applied so far
  slot,         ///< a moment of a parameter
  accumulator,  ///< the sum of a parameter's gradients
  loss_shares,  ///< the share of this rank's rows in each term of the loss
};
struct StepValue {
  StepRole role = {};
  ValueId value = kNoValue;
  ValueId parameter = kNoValue;  ///< the parameter that a norm, slot or accumulator belongs to
};

/// Nodes in topological order over values; inputs, outputs, states. A graph has value semantics: copies are
/// independent. Invariants (checked by `verify`): every value has at most one producer; nodes come after the producers
/// of their inputs; names are unique; states, inputs and captures have no producer. The same holds in every body of a
/// node, and its captures correspond one to one to the node's.
///
/// Producers and users of values are available at any time: every function that changes nodes updates them.
class Graph {
 public:
  std::string name;
  /// Version of each operator set used ("" is ai.onnx).
  std::map<std::string, std::int64_t> opsets;

  ValueMap<Value> values;  ///< created by `add_value` and its callers
  NodeList nodes;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<State> states;
  /// Values by role, for later passes. A role does not keep its value alive: `remove_dead` removes both.
  std::vector<StepValue> step;
  /// In a body of a node: `captures[i]` is the value that represents `Node::captures()[i]`, a value of the enclosing
  /// graph, or kNoValue if this body does not read it. The two names may differ.
  /// For a value two graphs further out, the enclosing body has a capture, too.
  std::vector<ValueId> captures;

  // Functions that take the id of a value throw Error if the graph has no such value.

  Value& operator[](ValueId id) { return values[checked(id)]; }
  const Value& operator[](ValueId id) const { return values[checked(id)]; }

  /// Adds a value. A suffix makes `name` unique if it is taken; an empty name is replaced by a generated one.
  ValueId add_value(std::string_view name, DType dtype = DType::undefined, Shape shape = Shape::unranked());
  /// Throws Error if the tensor is undefined.
  ValueId add_constant(std::string_view name, Tensor tensor);
  ValueId add_input(std::string_view name, DType dtype, Shape shape);
  /// Adds a state whose value has the dtype and shape of `initial`. Throws Error if `initial` is undefined.
  ValueId add_state(std::string_view name, Tensor initial, StateRole role);
  // Functions that change nodes invalidate indices, references and pointers to nodes, and spans of users.

  /// Appends a node with `output_count` new outputs (named after the node) and returns its index in `nodes`.
  std::size_t add_node(std::string_view op, std::string_view domain, std::vector<ValueId> inputs,
                       std::size_t output_count, Attributes attributes = {}, std::string_view name = {});
  /// Appends a node that produces existing values without a producer.
  std::size_t define(std::vector<ValueId> outputs, std::string_view op, std::string_view domain,
                     std::vector<ValueId> inputs, Attributes attributes = {}, std::string_view name = {});
  /// Appends a node that was taken from this graph by `take_nodes`.
  void append(Node node);
  /// Removes the nodes from index `first` on and returns them.
  std::vector<Node> take_nodes(std::size_t first = 0);
  /// Removes every node i with `gone[i]`.
  void remove_nodes(const std::vector<bool>& gone);

  /// Write access to a node. The destructor updates the graph's producers and users.
  class Edit {
   public:
    Edit(Graph& graph, std::size_t node);
    ~Edit();
    Edit(const Edit&) = delete;
    Edit& operator=(const Edit&) = delete;
    Node& operator*() const& { return graph_.nodes.list_[node_]; }
    Node& operator*() const&& = delete;  // a reference would outlive it
    Node* operator->() const { return &graph_.nodes.list_[node_]; }

   private:
    Graph& graph_;
    std::size_t node_;
    std::vector<ValueId> inputs_, outputs_;  // as they were
  };
  /// Example: `graph.edit(n)->inputs[0] = id;`
  Edit edit(std::size_t node) { return {*this, node}; }

  /// The value of that name, or kNoValue.
  ValueId find(std::string_view name) const;
  /// The value of that role, or kNoValue.
  ValueId find(StepRole role, ValueId parameter = kNoValue) const;
  /// Renames a value (a suffix makes the name unique if it is taken).
  void rename(ValueId id, std::string_view name);
  /// Index in `states` of the state with this current value, or -1.
  std::ptrdiff_t state_of(ValueId id) const;
  bool is_input(ValueId id) const;
  bool is_output(ValueId id) const;

  /// The node that produces a value; nullptr for kNoValue and for values without a producer.
  const Node* producer(ValueId id) const;
  /// Its index in `nodes`, or -1.
  std::ptrdiff_t producer_index(ValueId id) const;
  /// The uses of a value as inputs of nodes, in node order. Empty for kNoValue.
  std::span<const Use> users(ValueId id) const;
  /// Whether the value is read by a node, is a graph output, or is the `next` or `gradient` of a state.
  bool is_read(ValueId id) const;
  /// The only user of the value, if nothing else reads it in the sense of `is_read`; otherwise nullptr.
  const Use* sole_user(ValueId id) const;
  /// Makes every reader of `from` (nodes, outputs, states' next) read `to`; roles of step results move to `to`.
  void replace_uses(ValueId from, ValueId to);
  /// The same except for nodes, which still read `from`.
  void replace_references(ValueId from, ValueId to);
  /// Reorders nodes so that producers come first, keeping the present order where possible. Throws Error on a cycle.
  void sort();
  /// Removes nodes without a read output and unread constants (their tensors are released). Keeps states.
  void remove_dead();

  /// The id of the next node to be added.
  NodeId next_node_id() const { return NodeId(node_ids_); }

 private:
  ValueId checked(ValueId id) const {
    if (!values.contains(id)) [[unlikely]]
      throw_no_value(id);
    return id;
  }
  [[noreturn]] void throw_no_value(ValueId id) const;
  std::string unique_name(std::string_view wanted);
  Node make_node(std::string_view op, std::string_view domain, std::vector<ValueId> inputs, Attributes attributes,
                 std::string_view name);
  bool leaves_graph(ValueId id) const;  ///< an output, or the next value of a state
  void link(std::size_t node);
  void unlink(std::size_t node);
  void link_all();

  /// Producer and users of a value.
  struct Links {
    std::ptrdiff_t producer = -1;
    std::vector<Use> users = {};
  };
  ValueMap<Links> links_;
  std::unordered_map<std::string, ValueId> by_name_;
  std::unordered_map<std::string, std::int32_t> name_counts_;
  std::size_t node_ids_ = 0;  // given so far
};

/// Checks the invariants above; throws Error naming the first violated one.
void verify(const Graph& graph);

/// The graph in ONNX's text form (nodes, types, attributes; large constants abbreviated), for users and tests.
std::string to_text(const Graph& graph);

}  // namespace halfstep
