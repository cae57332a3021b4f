#include "ops/infer.h"
#include "passes/passes.h"

namespace halfstep {
namespace {

bool is_bias_for(const Value& bias, const Value& product) {
  if (!bias.shape.is_static() || bias.shape.rank() == 0 || bias.shape.rank() > 2) return false;
  const std::int64_t columns = product.shape[1];
  return bias.shape.dim(-1) == columns && bias.shape.count() == columns && bias.dtype == product.dtype;
}

}  // namespace

Pass canonicalize() {
  return {"canonicalize", [](Graph& graph) {
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
