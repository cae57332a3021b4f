#include "passes/load/free_batch.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
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

// What Reshape makes of its target: 0 copies an extent. An extent of -1 stays.
Dims target_of(const Node& node, const Shape& input, Dims dims) {
  if (node.attributes.get_int("allowzero", 0) == 0)
    for (std::size_t i = 0; i < dims.size() && i < input.rank(); ++i)
      if (dims[i] == 0) dims[i] = input[i];
  return dims;
}

class BatchRewriter {
 public:
  BatchRewriter(std::int64_t from, std::int64_t to) : from_(from), to_(to) {}

  void operator()(Graph& graph, Node& node) const {
    if (traits_of(node).random && node.inputs.empty()) return draw(node);
    if (!node.domain.empty() || node.inputs.empty() || node.inputs[0] == kNoValue) return;
    if (node.op == "Reshape") return reshape(graph, node);
    if (node.op == "Expand") return expand(graph, node);
    if (node.op == "Tile") return tile(graph, node);
    if (node.op == "ConstantOfShape") return fill(graph, node);
    if (traits_of(node).is_recurrent()) return check_initial_states(graph, node);
  }

 private:
  static bool is_known(const Graph& graph, const Node& node, std::size_t input) {
    return node.input(input) != kNoValue && graph[node.input(input)].is_constant();
  }
  static void set_dims(Graph& graph, Node& node, std::size_t input, const Dims& dims) {
    node.inputs[input] = graph.add_constant(graph[node.inputs[input]].name, Tensor::of(dims));
  }

  void reshape(Graph& graph, Node& node) const {
    const Shape in = graph[node.inputs[0]].shape;
    if (!is_known(graph, node, 1) || !in.is_static() || in.rank() == 0) return;
    Dims dims = target_of(node, in, to_int64s(graph[node.inputs[1]].constant));
    if (dims.empty()) return;
    const Dims before = dims;
    const bool is_open = std::find(dims.begin(), dims.end(), -1) != dims.end();
    if (in[0] == to_ && dims[0] == from_)
      dims[0] = to_;
    else if (!is_open && product(dims) != in.count() && dims[0] % from_ == 0 &&
             product(dims) / from_ * to_ == in.count())
      dims[0] = dims[0] / from_ * to_;
    if (!is_open && product(dims) != in.count()) baked_in(node, from_, "the shape " + Shape(before).to_string());
    if (dims != before) set_dims(graph, node, 1, dims);
  }

  // The axis of the batch in a shape that nothing else determines: the first, or that after it (states of recurrent
  // layers); -1 when it is neither.
  std::ptrdiff_t batch_axis(const Dims& dims) const {
    for (std::size_t axis = 0; axis < std::min<std::size_t>(dims.size(), 2); ++axis)
      if (dims[axis] == from_) return static_cast<std::ptrdiff_t>(axis);
    return -1;
  }

  void expand(Graph& graph, Node& node) const {
    const Shape in = graph[node.inputs[0]].shape;
    if (!is_known(graph, node, 1) || !in.is_static()) return;
    Dims dims = to_int64s(graph[node.inputs[1]].constant);
    const std::ptrdiff_t axis = batch_axis(dims);
    if (axis < 0 || dims.size() < in.rank()) return;
    const std::ptrdiff_t own = axis - static_cast<std::ptrdiff_t>(dims.size() - in.rank());
    const std::int64_t extent = own < 0 ? 1 : in[own];
    if (extent != 1 && extent != to_) return;
    dims[axis] = to_;
    set_dims(graph, node, 1, dims);
  }

  void tile(Graph& graph, Node& node) const {
    const Shape in = graph[node.inputs[0]].shape;
    if (!is_known(graph, node, 1) || !in.is_static() || in.rank() == 0 || in[0] != 1) return;
    Dims repeats = to_int64s(graph[node.inputs[1]].constant);
    if (repeats.empty() || repeats[0] != from_) return;
    repeats[0] = to_;
    set_dims(graph, node, 1, repeats);
  }

  void fill(Graph& graph, Node& node) const {
    if (!is_known(graph, node, 0)) return;
    Dims dims = to_int64s(graph[node.inputs[0]].constant);
    const std::ptrdiff_t axis = batch_axis(dims);
    if (axis < 0) return;
    dims[axis] = to_;
    set_dims(graph, node, 0, dims);
  }

  void draw(Node& node) const {
    Dims dims = node.attributes.get_ints("shape");
    const std::ptrdiff_t axis = batch_axis(dims);
    if (axis < 0) return;
    dims[axis] = to_;
    node.attributes.set("shape", dims);
  }

  // ONNX's inference does not look at these.
  void check_initial_states(const Graph& graph, const Node& node) const {
    const std::size_t axis = node.attributes.get_int("layout", 0) == 0 ? 1 : 0;
    const Shape& x = graph[node.inputs[0]].shape;
    const OperandRoles& roles = traits_of(node).operands;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (roles[i] != OperandRole::state || node.inputs[i] == kNoValue) continue;
      const Shape& state = graph[node.input(i)].shape;
      if (x.rank() == 3 && state.is_ranked() && state.rank() == 3 && state[axis] != x[axis])
        baked_in(node, from_, "the initial state of shape " + state.to_string());
    }
  }

  std::int64_t from_, to_;
};

std::int64_t first_extent(const Value& value) {
  return value.shape.is_ranked() && value.shape.rank() > 0 ? value.shape[0] : Shape::kUnknown;
}

// Of the first input that knows it, or kUnknown.
std::int64_t first_fixed_batch(const Graph& graph) {
  for (ValueId in : graph.inputs)
    if (first_extent(graph[in]) != Shape::kUnknown) return first_extent(graph[in]);
  return Shape::kUnknown;
}

bool rows_are_equal(const Tensor& tensor) {
  const std::size_t rows = static_cast<std::size_t>(tensor.shape()[0]);
  const std::size_t size = tensor.bytes() / rows;
  const auto* bytes = static_cast<const std::byte*>(tensor.raw());
  for (std::size_t i = 1; i < rows; ++i)
    if (std::memcmp(bytes, bytes + i * size, size) != 0) return false;
  return true;
}

bool is_concatenation(const Node& node) { return node.is("Concat") && node.attributes.get_int("axis", 0) != 0; }

// Whether the node joins its operands row by row, so that the first extent of each is the batch.
bool works_on_rows(const Node& node, const Graph& typed, ValueId constant, std::int64_t batch) {
  if (traits_of(node).elementwise != Elementwise::broadcast && !is_concatenation(node)) return false;
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId in) {
    if (in == kNoValue || in == constant || typed[in].is_constant()) return false;
    const Shape& shape = typed[in].shape;
    return shape.is_ranked() && shape.rank() == typed[constant].shape.rank() &&
           (shape[0] == batch || shape[0] == Shape::kUnknown);
  });
}

// Lets a Concat read the row expanded over the batch.
void expand_row(Graph& graph, const Use& use, ValueId row, std::int64_t batch) {
  Dims dims(graph[row].shape.begin(), graph[row].shape.end());
  dims[0] = batch;
  const std::string name = graph[row].name + ".expanded";
  const ValueId shape = graph.add_constant(name + ".shape", Tensor::of(dims));
  const std::size_t node = graph.add_node("Expand", kOnnxDomain, {row, shape}, 1, {}, name);
  infer_node(graph, graph.nodes[node]);
  const ValueId expanded = graph.nodes[node].outputs[0];
  graph.edit(use.node)->inputs[use.input] = expanded;
}

}  // namespace

NodeHook rewrite_batch(std::int64_t from, std::int64_t to) { return BatchRewriter(from, to); }

Pass undo_batch_expansion() {
  return {"undo_batch_expansion", [](Graph& graph) {
            const std::int64_t batch = first_fixed_batch(graph);
            if (batch == Shape::kUnknown || batch < 1) return;
            Graph typed = graph;
            infer_graph(typed);
            for (const ValueId id : typed.values.ids()) {
              const Value& value = typed[id];
              if (!value.is_constant() || value.dtype == DType::string || value.shape.rank() < 2 ||
                  value.shape[0] != batch || value.constant.bytes() == 0 || !rows_are_equal(value.constant) ||
                  graph.is_output(id))
                continue;
              const std::span<const Use> users = typed.users(id);
              if (users.empty() || !std::all_of(users.begin(), users.end(), [&](const Use& use) {
                    return works_on_rows(typed.nodes[use.node], typed, id, batch);
                  }))
                continue;
              Dims dims(value.shape.begin(), value.shape.end());
              dims[0] = 1;
              Tensor row(value.dtype, Shape(dims));
              std::memcpy(row.raw(), value.constant.raw(), row.bytes());
              graph[id].constant = row;
              graph[id].shape = row.shape();
              for (const Use& use : users)
                if (is_concatenation(graph.nodes[use.node])) expand_row(graph, use, id, batch);
            }
          }};
}

std::int64_t fixed_batch(const Graph& model) {
  const std::int64_t batch = first_fixed_batch(model);
  std::string found;
  bool agree = true;
  for (ValueId in : model.inputs) {
    const std::int64_t extent = first_extent(model[in]);
    if (extent == Shape::kUnknown) continue;
    agree = agree && extent == batch;
    found += fmt::format("{}'{}' has {}", found.empty() ? "" : ", ", model[in].name, extent);
  }
  if (!agree)
    throw_input_error("inputs of one batch size, their first extent", found,
                      "export the model with a dynamic batch dimension, or with the same rows in every input");
  if (batch == 0) throw_input_error("inputs with rows", found, "export the model with a dynamic batch dimension");
  return batch;
}

std::string batch_obstacle(const Graph& model) {
  // A prime: no extent of -1 makes up for another batch by dividing it.
  constexpr std::int64_t kProbe = 13, kOtherProbe = 17;
  const std::int64_t batch = first_fixed_batch(model);
  if (batch == Shape::kUnknown) return {};
  InputShapes shapes;
  for (ValueId in : model.inputs) {
    Shape shape = model[in].shape;
    if (!shape.is_ranked() || shape.rank() == 0 || (shape[0] != batch && shape[0] != Shape::kUnknown)) continue;
    Dims dims(shape.begin(), shape.end());
    dims[0] = batch == kProbe ? kOtherProbe : kProbe;
    shapes.by_name[model[in].name] = Shape(dims);
  }
  try {
    run_pipeline(model, {separate_merged_parameters(), undo_batch_expansion(), bind_shapes(shapes)});
  } catch (const Error& error) {
    return error.found();
  }
  return {};
}

}  // namespace halfstep
