#include "passes/step/class_axis.h"

#include <algorithm>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

std::vector<std::int64_t> without_unit_axes(const Shape& shape) {
  std::vector<std::int64_t> dims = shape.dims();
  if (!dims.empty()) dims.erase(std::remove(dims.begin() + 1, dims.end(), 1), dims.end());
  return dims;
}

std::size_t axis_before_transpose(const Node& transpose, std::size_t axis, std::size_t rank) {
  const std::vector<std::int64_t> perm = transpose.attributes.get_ints("perm");
  return perm.empty() ? rank - 1 - axis : static_cast<std::size_t>(perm[axis]);
}

bool is_known(const Graph& graph, ValueId id) { return graph[id].is_constant() || graph.state_of(id) >= 0; }

// That of the operands which are no constants, where all of them have the shape of the result and agree.
std::optional<std::size_t> class_axis_of_operands(const Graph& graph, const Node& node) {
  std::optional<std::size_t> found;
  for (const ValueId in : node.inputs) {
    if (in == kNoValue || is_known(graph, in)) continue;
    if (graph[in].shape != graph[node.outputs[0]].shape) return std::nullopt;
    const std::optional<std::size_t> axis = class_axis_of_model(graph, in);
    if (found && axis && found != axis) return std::nullopt;
    if (axis) found = axis;
  }
  return found;
}

}  // namespace

bool equal_but_for_unit_axes(const Shape& a, const Shape& b) { return without_unit_axes(a) == without_unit_axes(b); }

bool has_label_for_each_element(const Shape& output, const Shape& labels) {
  if (output.rank() == 0 || labels.rank() == 0) return output.rank() == labels.rank();
  if (output[0] != labels[0] || output.count() != labels.count()) return false;
  return output.rank() <= 2 || labels.rank() <= 2 || equal_but_for_unit_axes(output, labels);
}

Shape without_axis(const Shape& output, std::size_t axis) {
  std::vector<std::int64_t> dims = output.dims();
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  return Shape(std::move(dims));
}

bool are_class_indices(const Shape& output, const Shape& labels, std::size_t axis) {
  return axis > 0 && axis < output.rank() && labels.rank() > 0 &&
         equal_but_for_unit_axes(without_axis(output, axis), labels);
}

std::vector<std::size_t> class_axes(const Shape& output, const Shape& labels) {
  std::vector<std::size_t> axes;
  if (output.rank() < 2) return axes;
  for (const std::size_t axis : {std::size_t{1}, output.rank() - 1})
    if (are_class_indices(output, labels, axis) && (axes.empty() || axes.back() != axis)) axes.push_back(axis);
  const auto exact = [&](std::size_t axis) { return without_axis(output, axis) == labels; };
  if (std::any_of(axes.begin(), axes.end(), exact)) std::erase_if(axes, [&](std::size_t axis) { return !exact(axis); });
  return axes;
}

std::optional<std::size_t> class_axis_of_model(const Graph& graph, ValueId output) {
  const std::size_t rank = graph[output].shape.rank();
  const Node* node = graph.producer(output);
  if (!node || rank < 2 || !graph[output].shape.is_ranked()) return std::nullopt;
  const OpTraits& traits = traits_of(*node);
  switch (traits.features) {
    case FeatureAxis::second:
      return 1;
    case FeatureAxis::attribute:
      return normalize_axis(node->attributes.get_int("axis", -1), rank);
    case FeatureAxis::last: {
      const ValueId matrix = node->input(1);
      return is_known(graph, matrix) && graph[matrix].shape.rank() == 2 ? std::optional(rank - 1) : std::nullopt;
    }
    case FeatureAxis::unknown:
      break;
  }
  if (traits.elementwise == Elementwise::unary) return class_axis_of_model(graph, node->input(0));
  if (traits.elementwise == Elementwise::broadcast) return class_axis_of_operands(graph, *node);
  if (traits.movement == Movement::permute) {
    const auto before = class_axis_of_model(graph, node->input(0));
    for (std::size_t axis = 0; before && axis < rank; ++axis)
      if (axis_before_transpose(*node, axis, rank) == *before) return axis;
    return std::nullopt;
  }
  if (changes_shape_only(*node)) {
    const Shape &in = graph[node->input(0)].shape, &out = graph[output].shape;
    const auto before = class_axis_of_model(graph, node->input(0));
    if (!before) return std::nullopt;
    for (std::size_t axis = 1; axis < rank; ++axis)
      if (axis_across_units(in, out, axis) == *before) return axis;
    // Rows of [N * L, V] as [N, L, V]: the last axis is what it was.
    const bool keeps_last = in.is_static() && out.is_static() && *before + 1 == in.rank() && in.dim(-1) == out.dim(-1);
    if (keeps_last && out.dim(-1) != 1) return rank - 1;
    return std::nullopt;
  }
  return std::nullopt;
}

std::size_t likely_class_axis(const Graph& graph, ValueId output, const std::vector<std::size_t>& among) {
  const std::optional<std::size_t> axis = class_axis_of_model(graph, output);
  if (!axis || *axis == 0) return 1;
  return among.empty() || std::find(among.begin(), among.end(), *axis) != among.end() ? *axis : 1;
}

std::optional<std::size_t> axis_across_units(const Shape& from, const Shape& to, std::size_t axis) {
  if (!from.is_static() || !to.is_static() || axis >= to.rank() || axis == 0 || to[axis] == 1) return std::nullopt;
  if (from.rank() == 0 || from[0] != to[0] || !equal_but_for_unit_axes(from, to)) return std::nullopt;
  std::size_t left = 0;  // axes of more than one element before it, behind the batch
  for (std::size_t i = 1; i < axis; ++i) left += to[i] != 1;
  for (std::size_t i = 1; i < from.rank(); ++i)
    if (from[i] != 1 && left-- == 0) return i;
  return std::nullopt;
}

bool changes_shape_only(const Node& node) { return traits_of(node).movement == Movement::reshape; }

const Node* last_operator(const Graph& graph, ValueId output) {
  const auto passes = [&](const Node& node, bool any_shape) {
    if (node.is("Transpose") || node.is("Identity")) return true;
    if (node.is("Cast")) return is_float(graph[node.input(0)].dtype);
    if (!changes_shape_only(node)) return false;  // of others the first operand or result may be absent
    const Shape &in = graph[node.input(0)].shape, &out = graph[node.outputs[0]].shape;
    return (any_shape || (in.is_static() && out.is_static() && in.rank() > 0 && out.rank() > 0 && in[0] == out[0] &&
                          equal_but_for_unit_axes(in, out)));
  };
  const auto behind = [&](bool any_shape) {
    const Node* node = graph.producer(output);
    while (node && passes(*node, any_shape)) node = graph.producer(node->input(0));
    return node;
  };
  const Node* far = behind(true);
  return far && far->is("Sigmoid") ? far : behind(false);
}

std::size_t given_class_axis(const Value& output, std::int64_t axis) {
  const auto rank = static_cast<std::int64_t>(output.shape.rank());
  const std::int64_t from_front = axis < 0 ? axis + rank : axis;
  if (from_front < 1 || from_front >= rank)
    throw_input_error(
        fmt::format("a class axis of '{}' of shape {} behind the batch", output.name, output.shape.to_string()),
        fmt::format("axis {}", axis), "check --class-axis");
  return static_cast<std::size_t>(from_front);
}

}  // namespace halfstep
