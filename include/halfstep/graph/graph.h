// The graph: what a model is between being read and being compiled. It knows no file format and no device.
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

/// What the exporter says that an initializer is, where it says so.
enum class Declared : std::uint8_t { nothing, parameter, buffer };

/// One edge: a tensor with a name that is unique in its graph.
struct Value {
  std::string name;
  DType dtype = DType::undefined;
  Shape shape = Shape::unranked();
  /// Its elements when they are known at compile: an initializer. Undefined otherwise.
  Tensor constant;
  /// The constant stood in the source model as an initializer, not as a Constant node: it may be a parameter.
  bool is_initializer = false;
  Declared declared = Declared::nothing;

  bool is_constant() const { return constant.is_defined(); }
};

/// One operator applied to values.
struct Node {
  NodeId id = kNoNode;
  std::string op;                        ///< ONNX operator type: "Conv"
  std::string domain;                    ///< "" for ai.onnx, "ai.halfstep" for our own
  std::string name;                      ///< the node's name in the source model, or a made one
  std::vector<ValueId> inputs, outputs;  ///< kNoValue where an optional one is absent
  /// The last so many of `inputs` are no operands of the operator: they are what its bodies (If, Loop, Scan) read of
  /// this graph. Whatever follows uses of values sees them like any input. See Graph::captures.
  std::size_t capture_count = 0;
  Attributes attributes;
  /// For a gradient node the node it differentiates, so that kernels of the two can share private state.
  NodeId forward = kNoNode;

  bool is(std::string_view type, std::string_view in_domain = kOnnxDomain) const {
    return op == type && domain == in_domain;
  }
  bool is_own(std::string_view type) const { return is(type, kOwnDomain); }
  /// The inputs that the operator's schema speaks of.
  std::span<const ValueId> operands() const { return std::span(inputs).first(inputs.size() - capture_count); }
  /// The inputs that only the bodies read.
  std::span<const ValueId> captures() const { return std::span(inputs).last(capture_count); }
  ValueId input(std::size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
  ValueId output(std::size_t i) const { return i < outputs.size() ? outputs[i] : kNoValue; }
};

/// One reading of a value by a node.
struct Use {
  std::size_t node = 0;   ///< index in Graph::nodes
  std::size_t input = 0;  ///< of that node

  auto operator<=>(const Use&) const = default;
};

/// The nodes of a graph, read as a vector is. They change through functions of the graph, which knows by that who reads
/// what.
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

/// What a state is for; the trainer, the checkpoint and the printer look at it.
enum class StateRole {
  parameter,    ///< trained by the optimizer
  statistic,    ///< written by the forward pass: BatchNormalization's running mean and variance
  optimizer,    ///< moments, step counter
  loss_scale,   ///< scale and its counter of good steps
  accumulator,  ///< gradients summed over several batches
  random,       ///< counter of the random number generator
};
std::string_view name_of(StateRole role);

/// A tensor that lives across steps: a value now, and the value that takes its place after the step.
struct State {
  ValueId value = kNoValue;
  ValueId next = kNoValue;  ///< kNoValue while nothing updates it
  StateRole role = StateRole::parameter;
  Tensor initial;  ///< what it holds before the first step
  /// Gradient of the loss with respect to a parameter, from `differentiate` until an optimizer has used it.
  ValueId gradient = kNoValue;
};

/// What a value is to the training step that a graph has become. Passes, and whoever runs the step, find values by
/// this, whatever they are called.
enum class StepRole : std::uint8_t {
  // What the step computes.
  loss,              ///< one number
  term,              ///< of a loss of several terms one, before its weight
  prediction,        ///< for each term the model's output that it was computed from
  output,            ///< an output of the model, in its order; the one that is the loss is none
  loss_gradient,     ///< what backpropagation starts from
  gradient_norm,     ///< of all gradients together; with a parameter, of that one's
  gradients_finite,  ///< whether all of them are
  // What it is given: inputs and states.
  labels,
  sample_weights,
  learning_rate,
  loss_weight,  ///< what this batch's gradients are multiplied by
  first,        ///< whether this batch's gradients replace those that were there
  update,       ///< whether this batch completes an update
  loss_scale,   ///< the one this step uses
  updates,      ///< how many were applied so far
  slot,         ///< a moment of a parameter
  accumulator,  ///< the sum of a parameter's gradients
};
struct StepValue {
  StepRole role;
  ValueId value = kNoValue;
  ValueId parameter = kNoValue;  ///< whose norm or slot it is
};

/// Nodes in topological order over values; inputs, outputs, states. A plain value: copy it, change it, compare stages.
/// Invariants (checked by `verify`): every value has at most one producer, nodes come after the producers of their
/// inputs, names are unique, states, inputs and captures have no producer; the same holds in every body of a node, and
/// its captures correspond one to one to the node's.
///
/// Producers and users of values are at hand at any time: every function that changes nodes keeps them right.
class Graph {
 public:
  std::string name;
  /// Version of each operator set used ("" is ai.onnx).
  std::map<std::string, std::int64_t> opsets;

  ValueMap<Value> values;  ///< made by `add_value` and what calls it
  NodeList nodes;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<State> states;
  /// What passes hand over to those behind them. A role keeps no value alive: `remove_dead` drops it with its value.
  std::vector<StepValue> step;
  /// In a body of a node: `captures[i]` is the value that stands here for `Node::captures()[i]`, a value of the
  /// enclosing graph, or kNoValue where this body does not read it. It need not have the name it has outside.
  /// Of a value two graphs further out the enclosing body has a capture, too.
  std::vector<ValueId> captures;

  // Functions that take the id of a value throw Error when the graph has none of it.

  Value& operator[](ValueId id) { return values[checked(id)]; }
  const Value& operator[](ValueId id) const { return values[checked(id)]; }

  /// Adds a value; `name` is made unique by a suffix when it is taken, and made up when it is empty.
  ValueId add_value(std::string_view name, DType dtype = DType::undefined, Shape shape = Shape::unranked());
  /// Throws Error when the tensor holds nothing.
  ValueId add_constant(std::string_view name, Tensor tensor);
  ValueId add_input(std::string_view name, DType dtype, Shape shape);
  /// Adds a state whose value has the dtype and shape of `initial`. Throws Error when that holds nothing.
  ValueId add_state(std::string_view name, Tensor initial, StateRole role);
  // Functions that change nodes make indices, references and pointers to nodes, and spans of users, invalid.

  /// Appends a node with `output_count` new outputs (named after the node) and returns its index in `nodes`.
  std::size_t add_node(std::string_view op, std::string_view domain, std::vector<ValueId> inputs,
                       std::size_t output_count, Attributes attributes = {}, std::string_view name = {});
  /// Appends a node that gives values which are there and have no producer.
  std::size_t define(std::vector<ValueId> outputs, std::string_view op, std::string_view domain,
                     std::vector<ValueId> inputs, Attributes attributes = {}, std::string_view name = {});
  /// Appends a node that was taken out of this graph.
  void append(Node node);
  /// Takes the nodes from index `first` on out of the graph.
  std::vector<Node> take_nodes(std::size_t first = 0);
  /// Removes every node i for which `gone[i]` is true.
  void remove_nodes(const std::vector<bool>& gone);

  /// A node open for change; the graph learns what became of its inputs and outputs when this ends.
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
  /// Gives a value another name (made unique when it is taken).
  void rename(ValueId id, std::string_view name);
  /// Index in `states` of the state whose current value this is, or -1.
  std::ptrdiff_t state_of(ValueId id) const;
  bool is_input(ValueId id) const;
  bool is_output(ValueId id) const;

  /// The node that gives a value; nullptr for kNoValue and for values that no node gives.
  const Node* producer(ValueId id) const;
  /// Its index in `nodes`, or -1.
  std::ptrdiff_t producer_index(ValueId id) const;
  /// The inputs of nodes that a value is, in the order of nodes. None for kNoValue.
  std::span<const Use> users(ValueId id) const;
  /// Whether a node reads the value, or it is a graph output, or the `next` or `gradient` of a state.
  bool is_read(ValueId id) const;
  /// Its one user, where nothing else reads the value as `is_read` means it; else nullptr.
  const Use* sole_user(ValueId id) const;
  /// Makes every reader of `from` (nodes, outputs, states' next) read `to`; what the step computes as `from` is `to`.
  void replace_uses(ValueId from, ValueId to);
  /// The same without nodes, which go on to read `from`.
  void replace_references(ValueId from, ValueId to);
  /// Reorders nodes so that producers come first, keeping the present order where it can. Throws Error on a cycle.
  void sort();
  /// Removes nodes none of whose outputs is read, constants nobody reads (their tensors are dropped), and keeps states.
  void remove_dead();

  /// The id that the next node will get.
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
  bool leaves_graph(ValueId id) const;  ///< an output, or what a state becomes
  void link(std::size_t node);
  void unlink(std::size_t node);
  void link_all();

  /// Who gives and who reads a value.
  struct Links {
    std::ptrdiff_t producer = -1;
    std::vector<Use> users = {};
  };
  ValueMap<Links> links_;
  std::unordered_map<std::string, ValueId> by_name_;
  std::unordered_map<std::string, std::int32_t> name_counts_;
  std::size_t node_ids_ = 0;  // given so far
};

/// Checks the invariants above; throws Error naming the first one broken.
void verify(const Graph& graph);

/// The graph in ONNX's text form (nodes, types, attributes; large constants abridged), for people and tests.
std::string to_text(const Graph& graph);

}  // namespace halfstep
