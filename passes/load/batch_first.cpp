#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// The axis counted from the front, checked.
std::size_t batch_axis(const Value& value, std::int64_t axis) {
  if (!value.shape.is_ranked())
    throw_input_error(fmt::format("a known number of axes of '{}', to move one of them", value.name), "none",
                      "export the model with the shapes of its inputs and outputs");
  const auto rank = static_cast<std::int64_t>(value.shape.rank());
  if (axis < -rank || axis >= rank)
    throw_input_error(fmt::format("an axis of '{}', which has the shape {}", value.name, value.shape.to_string()),
                      fmt::format("axis {}", axis), "check --batch-axis");
  return static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
}

// Axis `from` goes to the front, or the front goes to axis `from`.
std::vector<std::int64_t> to_front(std::size_t from, std::size_t rank) {
  std::vector<std::int64_t> perm(rank);
  std::iota(perm.begin(), perm.end(), 0);
  std::rotate(perm.begin(), perm.begin() + static_cast<std::ptrdiff_t>(from),
              perm.begin() + static_cast<std::ptrdiff_t>(from) + 1);
  return perm;
}
std::vector<std::int64_t> from_front(std::size_t to, std::size_t rank) {
  std::vector<std::int64_t> perm = to_front(0, rank);
  std::rotate(perm.begin(), perm.begin() + 1, perm.begin() + static_cast<std::ptrdiff_t>(to) + 1);
  return perm;
}

Shape permuted(const Shape& shape, const std::vector<std::int64_t>& perm) {
  std::vector<std::int64_t> dims;
  for (const std::int64_t axis : perm) dims.push_back(shape[axis]);
  return Shape(std::move(dims));
}

ValueId add_transpose(Graph& graph, ValueId of, std::vector<std::int64_t> perm, std::string_view name) {
  const Shape shape = permuted(graph[of].shape, perm);
  const std::size_t node =
      graph.add_node("Transpose", kOnnxDomain, {of}, 1, {{"perm", std::move(perm)}}, fmt::format("{}.batch", name));
  const ValueId result = graph.nodes[node].outputs[0];
  graph[result].dtype = graph[of].dtype;
  graph[result].shape = shape;
  return result;
}

void move_input(Graph& graph, ValueId id, std::size_t axis) {
  const std::string name = graph[id].name;
  const Shape shape = graph[id].shape;
  const DType dtype = graph[id].dtype;
  graph.rename(id, name + ".inside");
  const ValueId outside = graph.add_input(name, dtype, permuted(shape, to_front(axis, shape.rank())));
  graph.inputs.pop_back();
  std::replace(graph.inputs.begin(), graph.inputs.end(), id, outside);
  graph.replace_uses(id, add_transpose(graph, outside, from_front(axis, shape.rank()), name));
}

void move_output(Graph& graph, ValueId id, std::size_t axis) {
  const std::string name = graph[id].name;
  graph.rename(id, name + ".inside");
  const ValueId outside = add_transpose(graph, id, to_front(axis, graph[id].shape.rank()), name);
  graph.rename(outside, name);
  std::replace(graph.outputs.begin(), graph.outputs.end(), id, outside);
}

}  // namespace

Pass batch_first(std::map<std::string, std::int64_t> axes) {
  return {"batch_first", [axes = std::move(axes)](Graph& graph) {
            for (const auto& [name, axis] : axes) {
              const ValueId id = graph.find(name);
              const bool is_input = id != kNoValue && graph.is_input(id);
              if (!is_input && (id == kNoValue || !graph.is_output(id))) {
                std::string known;
                for (const auto* ids : {&graph.inputs, &graph.outputs})
                  for (const ValueId each : *ids) known += (known.empty() ? "" : ", ") + graph[each].name;
                throw_input_error("an input or output of the model (" + known + ")", "'" + name + "'",
                                  "check --batch-axis");
              }
              if (!graph[id].shape.is_ranked()) infer_graph(graph);
              const std::size_t from = batch_axis(graph[id], axis);
              if (from == 0) continue;
              is_input ? move_input(graph, id, from) : move_output(graph, id, from);
            }
            graph.sort();
          }};
}

}  // namespace halfstep
