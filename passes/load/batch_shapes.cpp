// Where the batch that a model was exported for stands in shapes that it fixes.
#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "passes/load/free_batch.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

using Dims = std::vector<std::int64_t>;

[[noreturn]] void baked_in(const Node& node, std::int64_t batch, const std::string& found) {
  throw_input_error("a batch size that no node fixes",
                    fmt::format("{} of {} '{}', made for a batch of {}", found, node.op, node.name, batch),
                    "export the model with a dynamic batch dimension");
}

std::int64_t product(const Dims& dims) {
  std::int64_t result = 1;
  for (std::int64_t d : dims) result *= d;
  return result;
}

bool has(const Dims& dims, std::int64_t extent) { return std::ranges::find(dims, extent) != dims.end(); }

// The result has as many elements as the operand.
bool is_reshape(const Node& node) { return node.domain.empty() && node.op == "Reshape"; }
bool is_draw(const Node& node) { return traits_of(node).random && node.inputs.empty(); }
bool is_fill(const Node& node) { return node.domain.empty() && node.op == "ConstantOfShape"; }

// The operand that tells the result's shape.
std::optional<std::size_t> shape_operand(const Node& node) {
  if (!node.domain.empty()) return std::nullopt;
  if (is_fill(node)) return 0;
  if (is_reshape(node) || node.op == "Expand" || node.op == "Tile") return 1;
  return std::nullopt;
}

// The shape that the node has written down, if it has; of Tile, the repeats.
std::optional<Dims> written_shape(const Graph& graph, const Node& node) {
  if (is_draw(node)) return node.attributes.get_ints("shape");
  const auto operand = shape_operand(node);
  if (!operand || node.input(0) == kNoValue || node.input(*operand) == kNoValue) return std::nullopt;
  const Value& value = graph[node.input(*operand)];
  const Shape& input = graph[node.inputs[0]].shape;
  if (!value.is_constant() || !input.is_static()) return std::nullopt;
  Dims dims = to_int64s(value.constant);
  // An extent of 0 copies the input's. One of -1 stays.
  if (is_reshape(node) && node.attributes.get_int("allowzero", 0) == 0)
    for (std::size_t i = 0; i < dims.size() && i < input.rank(); ++i)
      if (dims[i] == 0) dims[i] = input[i];
  return dims;
}

void write_shape(Graph& graph, Node& node, const Dims& dims) {
  const auto operand = shape_operand(node);
  if (!operand)
    node.attributes.set("shape", dims);
  else
    node.inputs[*operand] = graph.add_constant(graph[node.inputs[*operand]].name, Tensor::of(dims));
}

void check_reshape(const Graph& graph, const Node& node, const Dims& was, const Dims& dims, std::int64_t from) {
  if (is_reshape(node) && !has(dims, -1) && product(dims) != graph[node.inputs[0]].shape.count())
    baked_in(node, from, "the shape " + Shape(was).to_string());
}

// ONNX's inference does not look at these.
void check_initial_states(const Graph& graph, const Node& node, std::int64_t from) {
  const std::size_t axis = node.attributes.get_int("layout", 0) == 0 ? 1 : 0;
  const Shape& x = graph[node.inputs[0]].shape;
  const OperandRoles& roles = traits_of(node).operands;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (roles[i] != OperandRole::state || node.inputs[i] == kNoValue) continue;
    const Shape& state = graph[node.input(i)].shape;
    if (x.rank() == 3 && state.is_ranked() && state.rank() == 3 && state[axis] != x[axis])
      baked_in(node, from, "the initial state of shape " + state.to_string());
  }
  constexpr std::size_t kLengths = 4;
  if (!node.domain.empty() || node.input(kLengths) == kNoValue) return;
  const Shape& lengths = graph[node.input(kLengths)].shape;
  if (x.rank() == 3 && lengths.is_ranked() && lengths.rank() == 1 && lengths[0] != x[axis])
    baked_in(node, from, "sequence_lens of shape " + lengths.to_string());
}

// Goes through a graph whose inputs have the batch `to`, and gives it to the shapes that need it.
class Search {
 public:
  using Ids = std::set<ValueId>;

  // `others` are shapes that are known to have another extent there.
  Search(std::int64_t from, std::int64_t to, std::span<const ValueId> batched, const Ids& others)
      : from_(from), to_(to), rows_(batched.begin(), batched.end()), others_(others) {}

  void visit(Graph& graph, Node& node) {
    read_operands(graph, node);
    if (traits_of(node).is_recurrent() && node.input(0) != kNoValue) check_initial_states(graph, node, from_);
    if (const std::optional<Dims> dims = written_shape(graph, node)) {
      Dims changed = *dims;
      if (const auto axis = batch_axis(graph, node, *dims)) {
        changed[*axis] = changed[*axis] / from_ * to_;
        axes_[node.outputs[0]] = *axis;
        if (is_source(node)) sources_.insert(node.outputs[0]);
      }
      check_reshape(graph, node, *dims, changed, from_);
      if (changed != *dims) write_shape(graph, node, changed);
    }
    for (const ValueId out : node.outputs) {
      if (out == kNoValue) continue;
      if (reads_rows_)
        rows_.insert(out);
      else if (!sources_.empty())
        sources_of_[out] = sources_;
    }
  }

  // The node that was visited last does not fit: what made its operands has another extent there.
  void doubt_last() { wrong_.insert(sources_.begin(), sources_.end()); }

  const std::map<ValueId, std::size_t>& axes() const { return axes_; }
  const Ids& wrong() const { return wrong_; }

 private:
  // Its result has rows that come from no operand.
  bool is_source(const Node& node) const {
    return !is_reshape(node) && (is_draw(node) || is_fill(node) || !rows_.contains(node.inputs[0]));
  }

  void read_operands(const Graph& graph, const Node& node) {
    const std::vector<ValueId>& operands = node.inputs;  // those of bodies as well
    const OperandRoles& roles = traits_of(node).operands;
    reads_rows_ = false;
    sources_.clear();
    for (std::size_t i = 0; i < operands.size(); ++i)
      reads_rows_ |= roles[i] != OperandRole::shape_only && rows_.contains(operands[i]);
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const auto made = sources_of_.find(operands[i]);
      if (made == sources_of_.end() || roles[i] == OperandRole::shape_only) continue;
      sources_.insert(made->second.begin(), made->second.end());
      if (!may_be_rows(graph, node, i)) wrong_.insert(made->second.begin(), made->second.end());
    }
  }

  // Whether the operand, which has the batch as an extent but comes from no input, has it where the node's other
  // operands have theirs.
  bool may_be_rows(const Graph& graph, const Node& node, std::size_t i) const {
    const OpTraits& traits = traits_of(node);
    const OperandRole role = traits.operands[i];
    const Shape& shape = graph[node.inputs[i]].shape;
    if (shape_operand(node) == i) return false;
    if (!shape.is_ranked()) return true;
    const bool is_product = node.is("MatMul");
    const bool broadcasts = traits.elementwise == Elementwise::broadcast || is_product || role == OperandRole::mask ||
                            role == OperandRole::bias;
    const bool is_data = role == OperandRole::data || role == OperandRole::state || role == OperandRole::table ||
                         role == OperandRole::source || (role == OperandRole::weight && i == 0 && !reads_rows_);
    if (traits.elementwise == Elementwise::none && !broadcasts && !is_data) return false;
    if (!reads_rows_) return true;
    if (role == OperandRole::state) return shape[node.attributes.get_int("layout", 0) == 0 ? 1 : 0] == to_;
    if (traits.operands.has(OperandRole::table)) return false;
    if (!broadcasts && shape.rank() < 2) return false;
    if (traits.control_flow != ControlFlow::none) return true;
    for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] != to_) continue;
      if (is_product && axis + 2 >= shape.rank()) return false;
      if (!others_have_it(graph, node, axis, broadcasts ? std::optional(shape.rank()) : std::nullopt)) return false;
    }
    return true;
  }

  // Whether an operand with rows has the batch at that axis, which is counted from the end where a rank is given.
  bool others_have_it(const Graph& graph, const Node& node, std::size_t axis, std::optional<std::size_t> rank) const {
    return std::ranges::any_of(node.inputs, [&](ValueId id) {
      if (!rows_.contains(id)) return false;
      const Shape& shape = graph[id].shape;
      if (!shape.is_ranked() || (rank && shape.rank() + axis < *rank)) return false;
      const std::size_t at = rank ? shape.rank() + axis - *rank : axis;
      return at < shape.rank() && shape[at] == to_;
    });
  }

  std::optional<std::size_t> batch_axis(const Graph& graph, const Node& node, const Dims& dims) const {
    if (dims.empty() || node.outputs.empty() || has(dims, to_) || others_.contains(node.outputs[0]))
      return std::nullopt;
    if (is_draw(node)) return first_of(dims);
    // Shapes and lists of indices are vectors of integers, too.
    if (is_fill(node))
      return dims.size() == 1 && is_integer(graph[node.outputs[0]].dtype) ? std::nullopt : first_of(dims);
    const ValueId data = node.inputs[0];
    const Shape& in = graph[data].shape;
    if (is_reshape(node))
      return (rows_.contains(data) || sources_of_.contains(data)) && takes_rows(in, dims) ? std::optional(0UL)
                                                                                          : std::nullopt;
    if (node.op == "Tile") return in.rank() > 0 && in[0] == 1 && dims[0] == from_ ? std::optional(0UL) : std::nullopt;
    return expanded_axis(in, dims, rows_.contains(data));
  }

  bool takes_rows(const Shape& in, const Dims& dims) const {
    if (in.rank() == 0) return false;
    if (in[0] == to_ && dims[0] == from_) return true;
    return !has(dims, -1) && product(dims) != in.count() && dims[0] % from_ == 0 &&
           product(dims) / from_ * to_ == in.count();
  }

  // Of an operand that has rows already the axis can only be theirs.
  std::optional<std::size_t> expanded_axis(const Shape& in, const Dims& dims, bool has_rows) const {
    if (dims.size() < in.rank()) return std::nullopt;
    const std::size_t missing = dims.size() - in.rank();
    const auto extent = [&](std::size_t axis) { return axis < missing ? 1 : in[axis - missing]; };
    for (const std::int64_t wanted : {to_, has_rows ? to_ : std::int64_t{1}})
      for (std::size_t axis = 0; axis < std::min<std::size_t>(dims.size(), 2); ++axis)
        if (dims[axis] == from_ && extent(axis) == wanted) return axis;
    return std::nullopt;
  }

  // In a shape that nothing else determines: the first axis, or that after it (states of recurrent layers).
  std::optional<std::size_t> first_of(const Dims& dims) const {
    for (std::size_t axis = 0; axis < std::min<std::size_t>(dims.size(), 2); ++axis)
      if (dims[axis] == from_) return axis;
    return std::nullopt;
  }

  std::int64_t from_, to_;
  Ids rows_;  // values that depend on an input with the batch
  const Ids& others_;
  std::map<ValueId, Ids> sources_of_;  // of values that do not: the shapes that gave them the batch
  std::map<ValueId, std::size_t> axes_;
  Ids wrong_;
  // Of the node visited last.
  bool reads_rows_ = false;
  Ids sources_;
};

}  // namespace

BatchShapes find_batch_shapes(const Graph& graph, std::span<const ValueId> batched, std::int64_t from) {
  const std::int64_t to = probe_batch(graph, from);
  Search::Ids others;
  for (;;) {
    Graph trial = graph;
    for (const ValueId id : batched) {
      Dims dims(trial[id].shape.begin(), trial[id].shape.end());
      dims[0] = to;
      trial[id].shape = Shape(dims);
    }
    Search search(from, to, batched, others);
    BatchShapes found;
    try {
      fold_constants([&](Graph& g, Node& node) { search.visit(g, node); }).apply(trial);
      found.obstacle = output_without_batch(graph, trial, from, to);
    } catch (const Error& error) {
      found.obstacle = error.found();
      search.doubt_last();
    }
    found.axes = search.axes();
    const std::size_t before = others.size();
    others.insert(search.wrong().begin(), search.wrong().end());
    if (others.size() == before) return found;
  }
}

const BatchShapes& BatchSearches::find(const Graph& graph, std::span<const ValueId> batched, std::int64_t from) {
  std::vector<Shape> inputs;
  for (const ValueId in : graph.inputs) {
    Dims dims = graph[in].shape.is_ranked() ? graph[in].shape.dims() : Dims();
    if (std::ranges::find(batched, in) != batched.end()) dims[0] = from;
    inputs.push_back(graph[in].shape.is_ranked() ? Shape(dims) : graph[in].shape);
  }
  const auto is_for = [&](const Made& made) {
    return made.from == from && std::ranges::equal(made.batched, batched) && made.inputs == inputs;
  };
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(made_, is_for);
  if (found != made_.end()) return found->found;
  made_.push_back({from, {batched.begin(), batched.end()}, inputs, find_batch_shapes(graph, batched, from)});
  return made_.back().found;
}

NodeHook rewrite_batch(BatchShapes shapes, std::int64_t from, std::int64_t to) {
  return [axes = std::move(shapes.axes), from, to](Graph& graph, Node& node) {
    if (traits_of(node).is_recurrent() && node.input(0) != kNoValue) check_initial_states(graph, node, from);
    const std::optional<Dims> dims = written_shape(graph, node);
    if (!dims) return;
    Dims changed = *dims;
    const auto at = node.outputs.empty() ? axes.end() : axes.find(node.outputs[0]);
    if (at != axes.end()) changed[at->second] = changed[at->second] / from * to;
    check_reshape(graph, node, *dims, changed, from);
    if (changed != *dims) write_shape(graph, node, changed);
  };
}

std::int64_t probe_batch(const Graph& model, std::int64_t from) {
  constexpr std::int64_t kFewElements = 16;
  std::set<std::int64_t> taken{from};
  for (const Value& value : model.values) {
    if (value.shape.is_ranked()) taken.insert(value.shape.begin(), value.shape.end());
    if (!value.is_constant() || !is_integer(value.dtype) || value.constant.count() > kFewElements) continue;
    const Dims elements = to_int64s(value.constant);
    taken.insert(elements.begin(), elements.end());
  }
  for (const std::int64_t prime : {13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89})
    if (!taken.contains(prime)) return prime;
  return 97;
}

std::string output_without_batch(const Graph& source, const Graph& graph, std::int64_t from, std::int64_t to) {
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    const Shape& was = source[source.outputs[i]].shape;
    const Value& is = graph[graph.outputs[i]];
    if (!was.is_ranked() || was.rank() == 0 || was[0] != from || !is.shape.is_ranked()) continue;
    if (is.shape.rank() != was.rank() || is.shape[0] != to)
      return fmt::format("output '{}' is {}", source[source.outputs[i]].name, is.shape.to_string());
  }
  return {};
}

}  // namespace halfstep
