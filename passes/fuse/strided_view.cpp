#include "passes/fuse/strided_view.h"

#include <algorithm>
#include <optional>

#include <halfstep/ops/kernel_util.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

using Ints = std::vector<std::int64_t>;

std::optional<Ints> constant_ints(const Graph& graph, ValueId id) {
  if (id == kNoValue || !graph[id].is_constant() || !is_integer(graph[id].dtype)) return std::nullopt;
  return ops::load<std::int64_t>(graph[id].constant);
}

StridedAxis merged(const StridedAxis& axis) {
  StridedAxis result;
  for (const Stride& s : axis) {
    if (s.extent == 1) continue;
    if (!result.empty() && result.back().step == s.step * s.extent)
      result.back() = {result.back().extent * s.extent, s.step};
    else
      result.push_back(s);
  }
  return result;
}

/// How a node takes its result from its operand: the operand's step for each axis of the result, and where it begins.
struct Source {
  Ints steps;
  std::int64_t start = 0;
};

std::optional<Source> source_of_slice(const Graph& graph, const Node& node, const Ints& strides) {
  const auto starts = constant_ints(graph, node.input(1));
  if (!starts) return std::nullopt;
  const Shape& shape = graph[node.inputs[0]].shape;
  Ints axes(starts->size());
  for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(i);
  if (node.input(3) != kNoValue) {
    const auto given = constant_ints(graph, node.input(3));
    if (!given || given->size() != axes.size()) return std::nullopt;
    axes = *given;
  }
  if (node.input(4) != kNoValue) {
    const auto steps = constant_ints(graph, node.input(4));
    if (!steps || std::ranges::any_of(*steps, [](std::int64_t s) { return s != 1; })) return std::nullopt;
  }
  Source result{strides};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = normalize_axis(axes[i], shape.rank());
    const std::int64_t from = (*starts)[i] < 0 ? (*starts)[i] + shape[axis] : (*starts)[i];
    result.start += std::clamp<std::int64_t>(from, 0, shape[axis]) * strides[axis];
  }
  return result;
}

std::optional<Source> source_of(const Graph& graph, const Node& node, ValueId result) {
  const Shape &from = graph[node.inputs[0]].shape, &to = graph[result].shape;
  const Ints strides = from.strides();
  if (node.is("Transpose")) {
    Ints perm = node.attributes.get_ints("perm"), steps;
    if (perm.empty())
      for (std::size_t i = from.rank(); i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
    for (const std::int64_t axis : perm) steps.push_back(strides[axis]);
    return Source{steps};
  }
  if (node.is("Split")) {
    const std::size_t axis = normalize_axis(node.attributes.get_int("axis", 0), from.rank());
    Source source{strides};
    for (const ValueId part : node.outputs) {
      if (part == result) return source;
      if (part == kNoValue) return std::nullopt;
      source.start += graph[part].shape[axis] * strides[axis];
    }
  }
  if (node.is("Slice")) return source_of_slice(graph, node, strides);
  if (node.is("Expand")) {
    Ints steps(to.rank(), 0);
    for (std::size_t i = 0; i < from.rank(); ++i)
      if (from[i] > 1) steps[to.rank() - from.rank() + i] = strides[i];
    return Source{steps};
  }
  if (node.is("Gather")) {
    const auto index = constant_ints(graph, node.inputs[1]);
    if (!index || index->size() != 1 || graph[node.inputs[1]].shape.rank() != 0) return std::nullopt;
    const std::size_t axis = normalize_axis(node.attributes.get_int("axis", 0), from.rank());
    Ints steps = strides;
    steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(axis));
    const std::int64_t at = index->front() < 0 ? index->front() + from[axis] : index->front();
    return Source{steps, at * strides[axis]};
  }
  return std::nullopt;
}

}  // namespace

StridedView StridedView::of(const Graph& graph, ValueId value) {
  StridedView view{.base = value, .offset = 0, .axes = {}};
  const Shape& shape = graph[value].shape;
  const Ints strides = shape.strides();
  for (std::size_t i = 0; i < shape.rank(); ++i) view.axes.push_back(merged({{shape[i], strides[i]}}));
  return view;
}

bool StridedView::step_back(const Graph& graph) {
  const Node* node = graph.producer(base);
  if (!node || node->inputs.empty() || node->inputs[0] == kNoValue) return false;
  const Value &from = graph[node->inputs[0]], &to = graph[base];
  if (!from.shape.is_static() || !to.shape.is_static() || from.dtype != to.dtype) return false;
  if (is_view(traits_of(*node).movement)) {
    if (from.shape.count() != to.shape.count()) return false;
  } else {
    const std::optional<Source> source = source_of(graph, *node, base);
    if (!source || !move(to.shape.dims(), source->steps, source->start)) return false;
  }
  base = node->inputs[0];
  return true;
}

bool StridedView::step_forward(const Graph& graph) {
  const Use* use = graph.sole_user(base);
  if (!use || use->input != 0) return false;
  const Node& node = graph.nodes[use->node];
  const ValueId result = node.output(0);
  if (result == kNoValue || node.outputs.size() != 1) return false;
  const Value &from = graph[base], &to = graph[result];
  if (!from.shape.is_static() || !to.shape.is_static() || from.dtype != to.dtype) return false;
  if (is_view(traits_of(node).movement)) {
    if (from.shape.count() != to.shape.count()) return false;
  } else {
    if (!node.is("Transpose")) return false;
    const Ints perm = node.attributes.get_ints("perm"), strides = to.shape.strides();
    if (perm.size() != from.shape.rank()) return false;
    Ints steps(perm.size());
    for (std::size_t i = 0; i < perm.size(); ++i) steps[perm[i]] = strides[i];
    if (!move(from.shape.dims(), steps, 0)) return false;
  }
  base = result;
  return true;
}

// The base has these extents; along each of its axes one step is steps[axis] elements in what it becomes.
bool StridedView::move(const Ints& extents, const Ints& steps, std::int64_t start) {
  const Ints strides = Shape(extents).strides();
  Ints last(extents.size());  // the largest index along each axis
  std::int64_t rest = offset, moved_offset = start;
  for (std::size_t k = 0; k < extents.size(); ++k) {
    last[k] = strides[k] > 0 ? rest / strides[k] : 0;
    rest -= last[k] * strides[k];
    moved_offset += last[k] * steps[k];
  }
  std::vector<StridedAxis> moved;
  for (const StridedAxis& axis : axes) {
    StridedAxis pieces;  // the innermost first
    for (auto s = axis.rbegin(); s != axis.rend(); ++s) {
      if (s->step == 0) {
        pieces.push_back(*s);
        continue;
      }
      std::int64_t left = s->extent, step = s->step;
      while (left > 1) {
        std::size_t k = extents.size();
        while (k > 0 && (extents[k - 1] == 1 || strides[k - 1] * extents[k - 1] <= step)) --k;
        if (k-- == 0 || step % strides[k] != 0) return false;
        const std::int64_t stride = step / strides[k];
        std::int64_t n = left;
        if ((left - 1) * stride >= extents[k]) {
          n = extents[k] / stride;
          if (extents[k] % stride != 0 || left % n != 0) return false;
        }
        last[k] += (n - 1) * stride;
        pieces.push_back({n, stride * steps[k]});
        left /= n;
        step = strides[k] * extents[k];
      }
    }
    std::ranges::reverse(pieces);
    moved.push_back(merged(pieces));
  }
  for (std::size_t k = 0; k < extents.size(); ++k)
    if (last[k] >= extents[k]) return false;
  axes = std::move(moved);
  offset = moved_offset;
  return true;
}

std::vector<StridedAxis> split_alike(std::vector<StridedAxis> axes) {
  std::vector<StridedAxis> result(axes.size());                            // the innermost first
  for (StridedAxis& axis : axes) axis.insert(axis.begin(), Stride{1, 0});  // so that none is empty
  while (true) {
    std::int64_t least = 0;
    for (StridedAxis& axis : axes) {
      while (axis.size() > 1 && axis.back().extent == 1) axis.pop_back();
      const std::int64_t extent = axis.back().extent;
      if (extent > 1 && (least == 0 || extent < least)) least = extent;
    }
    if (least == 0) break;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      Stride& s = axes[i].back();
      if (s.extent % least != 0) return {};
      result[i].push_back({least, s.step});
      s = {s.extent / least, s.step * least};
    }
  }
  // Merge neighbours where all of them allow it.
  const std::size_t count = result.empty() ? 0 : result[0].size();
  std::vector<StridedAxis> joined(result.size());
  for (std::size_t k = count; k-- > 0;) {
    const bool joins = !joined[0].empty() && std::ranges::all_of(result, [&](const StridedAxis& axis) {
      const StridedAxis& made = joined[&axis - result.data()];
      return made.back().step == axis[k].step * axis[k].extent;
    });
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (joins)
        joined[i].back() = {joined[i].back().extent * result[i][k].extent, result[i][k].step};
      else
        joined[i].push_back(result[i][k]);
    }
  }
  return joined;
}

}  // namespace halfstep
