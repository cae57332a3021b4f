#include <algorithm>

#include <halfstep/ops/infer.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

bool is_bias_for(const Value& bias, const Value& product) {
  if (!bias.shape.is_static() || bias.shape.rank() == 0 || bias.shape.rank() > 2) return false;
  const std::int64_t columns = product.shape[1];
  return bias.shape.dim(-1) == columns && bias.shape.count() == columns && bias.dtype == product.dtype;
}

// Whether every window looks at an element: of padding alone the maximum is -infinity, and Relu of that is not.
bool pools_elements(const Node& pool) {
  const std::vector<std::int64_t> pads = pool.attributes.get_ints("pads");
  const std::string auto_pad = pool.attributes.get_string("auto_pad", "NOTSET");
  return (auto_pad == "NOTSET" || auto_pad == "VALID") &&
         std::all_of(pads.begin(), pads.end(), [](std::int64_t pad) { return pad == 0; });
}

// MaxPool of Relu, which is Relu of MaxPool: the places of what is above 0 stay, and the rest has no gradient. Relu
// then has fewer elements, and so has its gradient. A normalization's Relu stays, since the two are one kernel.
void pool_before_relu(Graph& graph) {
  const std::vector<std::int32_t> producers = graph.producers(), uses = graph.use_counts();
  const auto producer = [&](ValueId id) -> Node* {
    const std::int32_t p = id == kNoValue ? -1 : producers[static_cast<std::size_t>(id)];
    return p < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(p)];
  };
  for (Node& pool : graph.nodes) {
    if (!pool.is("MaxPool") || pool.output(1) != kNoValue || !pools_elements(pool)) continue;
    const ValueId between = pool.inputs[0];
    Node* relu = producer(between);
    if (!relu || !relu->is("Relu") || uses[static_cast<std::size_t>(between)] != 1 || graph.is_output(between))
      continue;
    const Node* before = producer(relu->inputs[0]);
    if (before && before->is("BatchNormalization")) continue;
    std::swap(relu->op, pool.op);
    std::swap(relu->attributes, pool.attributes);
    std::swap(relu->name, pool.name);
    graph[between].shape = graph[pool.outputs[0]].shape;
  }
}

}  // namespace

Pass canonicalize() {
  return {"canonicalize", [](Graph& graph) {
            pool_before_relu(graph);
            const std::vector<std::int32_t> producers = graph.producers(), uses = graph.use_counts();
            for (Node& node : graph.nodes) {
              if (!node.is("Add")) continue;
              for (std::size_t side : {0u, 1u}) {
                const ValueId product = node.inputs[side], bias = node.inputs[1 - side];
                const std::int32_t p = producers[static_cast<std::size_t>(product)];
                if (p < 0 || uses[static_cast<std::size_t>(product)] != 1) continue;
                const Node& matmul = graph.nodes[static_cast<std::size_t>(p)];
                const Value& result = graph[product];
                if (!matmul.is("MatMul") || !result.shape.is_static() || result.shape.rank() != 2) continue;
                if (graph[matmul.inputs[0]].shape.rank() != 2 || graph[matmul.inputs[1]].shape.rank() != 2) continue;
                if (!is_bias_for(graph[bias], result)) continue;
                node.op = "Gemm";
                node.inputs = {matmul.inputs[0], matmul.inputs[1], bias};
                break;
              }
            }
            graph.remove_dead();
          }};
}

}  // namespace halfstep
