#include "passes/load/recurrent_bias.h"

#include <cstddef>
#include <cstring>

#include "passes/simplify/constant_values.h"
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

// The columns [first, last) of the last axis.
Tensor columns(const Tensor& tensor, std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> dims = tensor.shape().dims();
  const std::int64_t width = dims.back();
  dims.back() = last - first;
  Tensor result(tensor.dtype(), Shape(dims));
  const std::size_t element = tensor.bytes() / static_cast<std::size_t>(tensor.count());
  const std::int64_t rows = tensor.count() / width;
  for (std::int64_t row = 0; row < rows; ++row)
    std::memcpy(static_cast<std::byte*>(result.raw()) + static_cast<std::size_t>(row * (last - first)) * element,
                static_cast<const std::byte*>(tensor.raw()) + static_cast<std::size_t>(row * width + first) * element,
                static_cast<std::size_t>(last - first) * element);
  return result;
}

}  // namespace

std::int64_t single_bias_extent(const ModelFacts& model, ValueId id) {
  constexpr std::size_t kB = 3;
  if (model.exporter == Exporter::pytorch || model.exporter == Exporter::paddle) return 0;
  const Tensor& bias = model.graph[id].constant;
  const std::span<const Use> uses = model.uses(id);
  if (bias.shape().rank() != 2 || bias.shape()[1] % 2 != 0 || bias.count() == 0 || uses.empty() ||
      model.graph.is_output(id))
    return 0;
  for (const Use& use : uses) {
    const Node& node = model.node(use);
    if (!traits_of(node).is_recurrent() || use.input != kB) return 0;
    if (node.op == "GRU" && node.attributes.get_int("linear_before_reset", 0) != 0) return 0;
  }
  const std::int64_t half = bias.shape()[1] / 2;
  if (!all_equal_to(columns(bias, half, 2 * half), 0)) return 0;
  // A layer whose biases are both zero tells nothing.
  const bool has_input_bias = !all_equal_to(columns(bias, 0, half), 0);
  return has_input_bias || model.exporter == Exporter::keras ? half : 0;
}

void separate_leading(Graph& graph, ValueId id, std::int64_t extent) {
  const Tensor whole = graph[id].constant;
  const std::string name = graph[id].name;
  const ValueId rest = graph.add_constant(name + ".rest", columns(whole, extent, whole.shape().dim(-1)));
  const std::size_t node =
      graph.add_node("Concat", kOnnxDomain, {kNoValue, rest}, 1, {{"axis", std::int64_t{-1}}}, name + ".whole");
  const ValueId joined = graph.nodes[node].outputs[0];
  graph.replace_uses(id, joined);
  graph.edit(node)->inputs[0] = id;
  graph[id].constant = columns(whole, 0, extent);
  graph[id].shape = graph[id].constant.shape();
  infer_node(graph, graph.nodes[node]);
}

}  // namespace halfstep
