// Fused operators, written only where the executor has them.
#include "graph/error.h"
#include "ops/infer.h"
#include "ops/op_def.h"
#include "passes/passes.h"

namespace halfstep {
namespace {

struct Uses {
  std::vector<std::int32_t> producers, counts;
  explicit Uses(const Graph& graph) : producers(graph.producers()), counts(graph.use_counts()) {}
  /// Index of the node whose output 0 is `id` and that nobody else reads, or -1.
  std::int32_t sole_producer(const Graph& graph, ValueId id) const {
    if (id == kNoValue || counts[static_cast<std::size_t>(id)] != 1 || graph.is_output(id)) return -1;
    const std::int32_t p = producers[static_cast<std::size_t>(id)];
    return p >= 0 && graph.nodes[static_cast<std::size_t>(p)].outputs[0] == id ? p : -1;
  }
};

// The fused operator that computes what `node` does, and takes `activation`, `to` or both.
std::string_view fused_name(const Node& node) {
  if (node.is("Gemm") || node.is_own("FusedGemm")) return "FusedGemm";
  if (node.is("MatMul") || node.is_own("FusedMatMul")) return "FusedMatMul";
  if (node.is("Conv") || node.is_own("FusedConv")) return "FusedConv";
  if (node.is_own("ConvGradWeight")) return "ConvGradWeight";
  if (node.is("BatchNormalization") || node.is_own("FusedBatchNormalization")) return "FusedBatchNormalization";
  return {};
}

void become_fused(Node& node) {
  node.op = fused_name(node);
  node.domain = kOwnDomain;
}

void replace_output(Graph& graph, Node& producer, const Node& user) {
  producer.outputs[0] = user.outputs[0];
  infer_node(graph, producer);
}

bool takes_activation(std::string_view fused_op) {
  return fused_op == "FusedGemm" || fused_op == "FusedConv" || fused_op == "FusedBatchNormalization";
}
bool takes_type(std::string_view fused_op) {
  return fused_op == "FusedGemm" || fused_op == "FusedMatMul" || fused_op == "ConvGradWeight";
}

// Relu of a product, a convolution or a normalization.
bool fuse_relu(Graph& graph, const Uses& uses, const std::set<std::string, std::less<>>& fused, const Node& relu) {
  const std::int32_t p = uses.sole_producer(graph, relu.inputs[0]);
  if (p < 0) return false;
  Node& producer = graph.nodes[static_cast<std::size_t>(p)];
  const std::string_view name = fused_name(producer);
  if (!takes_activation(name) || !fused.contains(name)) return false;
  if (!producer.attributes.get_string("activation", "").empty() || producer.attributes.get_int("to", 0) != 0)
    return false;
  become_fused(producer);
  producer.attributes.set("activation", std::string("Relu"));
  replace_output(graph, producer, relu);
  return true;
}

// Cast(product in half) to f32: the product is accumulated in f32 anyway.
bool fuse_cast(Graph& graph, const Uses& uses, const std::set<std::string, std::less<>>& fused, const Node& cast) {
  const std::int32_t p = uses.sole_producer(graph, cast.inputs[0]);
  if (p < 0 || graph[cast.outputs[0]].dtype != DType::f32 || !is_half(graph[cast.inputs[0]].dtype)) return false;
  Node& producer = graph.nodes[static_cast<std::size_t>(p)];
  const std::string_view name = fused_name(producer);
  if (!takes_type(name)) return false;
  if (name != "ConvGradWeight" && !fused.contains(name)) return false;
  if (producer.attributes.get_int("to", 0) != 0) return false;
  become_fused(producer);
  producer.attributes.set("to", static_cast<std::int64_t>(DType::f32));
  replace_output(graph, producer, cast);
  return true;
}

// BatchNormalizationGrad of a ReluGrad, where the forward pass has the two as one.
bool fuse_relu_grad(Graph& graph, const Uses& uses, Node& grad) {
  const std::int32_t p = uses.sole_producer(graph, grad.inputs[0]);
  if (p < 0 || !graph.nodes[static_cast<std::size_t>(p)].is_own("ReluGrad")) return false;
  const Node& relu_grad = graph.nodes[static_cast<std::size_t>(p)];
  const std::int32_t forward = uses.producers[static_cast<std::size_t>(relu_grad.inputs[1])];
  if (forward < 0 || grad.forward == kNoNode) return false;
  const Node& normalization = graph.nodes[static_cast<std::size_t>(forward)];
  if (normalization.id != grad.forward || normalization.attributes.get_string("activation", "") != "Relu") return false;
  grad.inputs.resize(6, kNoValue);
  grad.inputs[0] = relu_grad.inputs[0];
  grad.inputs[5] = relu_grad.inputs[1];
  grad.attributes.set("activation", std::string("Relu"));
  return true;
}

// Removes the nodes that `is_gone` says.
void remove_nodes(Graph& graph, const std::vector<bool>& is_gone) {
  std::vector<Node> kept;
  for (std::size_t i = 0; i < is_gone.size(); ++i)
    if (!is_gone[i]) kept.push_back(std::move(graph.nodes[i]));
  graph.nodes = std::move(kept);
}

}  // namespace

Pass fuse(std::set<std::string, std::less<>> fused) {
  return {"fuse", [fused = std::move(fused)](Graph& graph) {
            for (std::string_view op : {"Relu", "Cast"}) {
              const Uses uses(graph);
              std::vector<bool> gone(graph.nodes.size(), false);
              for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
                const Node node = graph.nodes[i];
                if (node.is(op))
                  gone[i] = op == "Relu" ? fuse_relu(graph, uses, fused, node) : fuse_cast(graph, uses, fused, node);
              }
              remove_nodes(graph, gone);
            }
            const Uses uses(graph);
            std::vector<bool> gone(graph.nodes.size(), false);
            for (Node& node : graph.nodes) {
              if (!node.is_own("BatchNormalizationGrad")) continue;
              const ValueId gradient = node.inputs[0];
              if (fuse_relu_grad(graph, uses, node))
                gone[static_cast<std::size_t>(uses.producers[static_cast<std::size_t>(gradient)])] = true;
            }
            remove_nodes(graph, gone);
          }};
}

}  // namespace halfstep
