#include "conformance/extents.h"

#include <algorithm>
#include <cstring>

#include "conformance/run_graph.h"

namespace halfstep {

Shape mapped(const Shape& shape, const ExtentMap& extents) {
  return Shape(mapped_values({shape.begin(), shape.end()}, extents));
}

std::vector<std::int64_t> mapped_values(std::vector<std::int64_t> values, const ExtentMap& extents) {
  for (std::int64_t& value : values)
    if (auto it = extents.find(value); it != extents.end()) value = it->second;
  return values;
}

void change_shape_attributes(Graph& graph, const ExtentMap& extents) {
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Attributes before = graph.nodes[n].attributes;
    for (const auto& [name, value] : before)
      if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value);
          list && name.ends_with("shape") && name != "kernel_shape")
        graph.edit(n)->attributes.set(name, mapped_values(*list, extents));
  }
}

Tensor resized(const Tensor& from, const Shape& shape) {
  Tensor to(from.dtype(), shape);
  if (from.count() == 0) return to;
  const std::size_t bytes = bits_of(from.dtype()) / 8, count = static_cast<std::size_t>(from.count());
  for (std::size_t i = 0; i < static_cast<std::size_t>(to.count()); ++i)
    std::memcpy(static_cast<char*>(to.raw()) + i * bytes, static_cast<const char*>(from.raw()) + i % count * bytes,
                bytes);
  return to;
}

bool can_resize(const Tensor& tensor) { return tensor.dtype() != DType::string && bits_of(tensor.dtype()) % 8 == 0; }

bool keeps_integers(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    const OpDef* op = find_op(node.op, node.domain);
    return op && op->variations.keep_integers;
  });
}

bool is_fit(const Graph& graph) {
  return std::all_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    const OpDef* op = find_op(node.op, node.domain);
    return !op || !op->variations.fits || op->variations.fits(graph, node);
  });
}

bool all_within(const Graph& graph, std::int64_t most_elements) {
  return std::none_of(graph.values.begin(), graph.values.end(), [&](const Value& value) {
    return value.shape.is_static() && value.shape.count() > most_elements;
  });
}

bool runs_as_inferred(const ConformanceCase& made, std::int64_t most_elements) {
  const std::vector<Tensor> outputs = run_graph(*make_reference_executor(), made.graph, made.inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Shape& inferred = made.graph[made.graph.outputs[i]].shape;
    if (outputs[i].count() > most_elements || (inferred.is_static() && outputs[i].shape() != inferred)) return false;
  }
  return true;
}

}  // namespace halfstep
