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

// The fused operator that computes what `node` does, and takes `activation` and `to`.
std::string_view fused_name(const Node& node) {
  if (node.is("Gemm") || node.is_own("FusedGemm")) return "FusedGemm";
  if (node.is("MatMul") || node.is_own("FusedMatMul")) return "FusedMatMul";
  if (node.is("Conv") || node.is_own("FusedConv")) return "FusedConv";
  if (node.is_own("ConvGradWeight")) return "ConvGradWeight";
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

// Relu(Gemm) and Relu(Conv).
bool fuse_relu(Graph& graph, const Uses& uses, const std::set<std::string, std::less<>>& fused, const Node& relu) {
  const std::int32_t p = uses.sole_producer(graph, relu.inputs[0]);
  if (p < 0) return false;
  Node& producer = graph.nodes[static_cast<std::size_t>(p)];
  const std::string_view name = fused_name(producer);
  if ((name != "FusedGemm" && name != "FusedConv") || !fused.contains(name)) return false;
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
  if (name.empty() || name == "FusedConv") return false;
  if (name != "ConvGradWeight" && !fused.contains(name)) return false;
  if (producer.attributes.get_int("to", 0) != 0) return false;
  become_fused(producer);
  producer.attributes.set("to", static_cast<std::int64_t>(DType::f32));
  replace_output(graph, producer, cast);
  return true;
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
              std::vector<Node> kept;
              for (std::size_t i = 0; i < gone.size(); ++i)
                if (!gone[i]) kept.push_back(std::move(graph.nodes[i]));
              graph.nodes = std::move(kept);
            }
          }};
}

}  // namespace halfstep
