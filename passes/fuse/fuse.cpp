// Fused operators, written only where the executor has them.
#include <cmath>

#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/passes/passes.h>

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

bool takes_activation(std::string_view fused_op, std::string_view activation) {
  if (fused_op == "FusedBatchNormalization") return true;
  return activation == "Relu" && (fused_op == "FusedGemm" || fused_op == "FusedConv");
}
bool takes_type(std::string_view fused_op) {
  return fused_op == "FusedGemm" || fused_op == "FusedMatMul" || fused_op == "ConvGradWeight";
}

// The attribute `name` for a bound of Clip, an optional input; false if it is no constant that an f32 can say.
bool add_bound(const Graph& graph, ValueId bound, std::string_view name, Attributes& attributes) {
  if (bound == kNoValue) return true;
  const Value& value = graph[bound];
  if (!value.is_constant() || value.constant.count() != 1 || !is_float(value.dtype)) return false;
  const double wanted = to_doubles(value.constant)[0];
  const auto given = static_cast<float>(wanted);
  if (given != wanted || !std::isfinite(given)) return false;
  attributes.set(name, given);
  return true;
}

// What attributes say of `node`, a Relu or a Clip with constant bounds, or the gradient of one; empty for other nodes.
Attributes activation_attributes(const Graph& graph, const Node& node) {
  if (node.is("Relu") || node.is_own("ReluGrad")) return {{"activation", std::string("Relu")}};
  if (!node.is("Clip") && !node.is_own("ClipGrad")) return {};
  const std::size_t bounds = node.is("Clip") ? 1 : 2;
  Attributes attributes = {{"activation", std::string("Clip")}};
  const bool constant = add_bound(graph, node.input(bounds), "min", attributes) &&
                        add_bound(graph, node.input(bounds + 1), "max", attributes);
  return constant ? attributes : Attributes();
}

void set_all(Node& node, const Attributes& attributes) {
  for (const auto& [name, value] : attributes) node.attributes.set(name, value);
}

// Relu of a product or a convolution; Relu or Clip of a normalization.
bool fuse_activation(Graph& graph, const Uses& uses, const std::set<std::string, std::less<>>& fused,
                     const Node& activation) {
  const Attributes attributes = activation_attributes(graph, activation);
  if (attributes.empty()) return false;
  const std::int32_t p = uses.sole_producer(graph, activation.inputs[0]);
  if (p < 0) return false;
  Node& producer = graph.nodes[static_cast<std::size_t>(p)];
  const std::string_view name = fused_name(producer);
  if (!takes_activation(name, activation.op) || !fused.contains(name)) return false;
  if (!producer.attributes.get_string("activation", "").empty() || producer.attributes.get_int("to", 0) != 0)
    return false;
  become_fused(producer);
  set_all(producer, attributes);
  replace_output(graph, producer, activation);
  return true;
}

// Cast(product in half) to f32: the product is accumulated in f32 anyway.
bool fuse_cast(Graph& graph, const Uses& uses, const std::set<std::string, std::less<>>& fused, const Node& cast) {
  if (!cast.is("Cast")) return false;
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

// The node that made `id`, or nullptr.
const Node* producer_of(const Graph& graph, const Uses& uses, ValueId id) {
  const std::int32_t p = uses.producers[static_cast<std::size_t>(id)];
  return p < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(p)];
}

// BatchNormalizationGrad of the gradient of the Relu or Clip that follows the normalization. It computes what the
// activation saw from X again, so that nobody reads what lies between normalization and activation.
bool fuse_activation_grad(Graph& graph, const Uses& uses, Node& grad) {
  const std::int32_t p = uses.sole_producer(graph, grad.inputs[0]);
  if (p < 0 || grad.forward == kNoNode) return false;
  const Node& activation_grad = graph.nodes[static_cast<std::size_t>(p)];
  const Attributes attributes = activation_attributes(graph, activation_grad);
  if (attributes.empty()) return false;
  // ClipGrad reads Clip's operand, ReluGrad reads Relu's result.
  const Node* normalization = producer_of(graph, uses, activation_grad.inputs[1]);
  if (normalization && activation_grad.is_own("ReluGrad"))
    normalization = normalization->is("Relu") ? producer_of(graph, uses, normalization->inputs[0]) : nullptr;
  if (!normalization || normalization->id != grad.forward) return false;
  grad.inputs.resize(6, kNoValue);
  grad.inputs[0] = activation_grad.inputs[0];
  grad.inputs[5] = normalization->inputs[2];
  set_all(grad, attributes);
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
            if (fused.contains("FusedBatchNormalization")) {
              const Uses uses(graph);
              std::vector<bool> gone(graph.nodes.size(), false);
              for (Node& node : graph.nodes) {
                if (!node.is_own("BatchNormalizationGrad")) continue;
                const ValueId gradient = node.inputs[0];
                if (fuse_activation_grad(graph, uses, node))
                  gone[static_cast<std::size_t>(uses.producers[static_cast<std::size_t>(gradient)])] = true;
              }
              remove_nodes(graph, gone);
            }
            for (const auto fuse_node : {fuse_activation, fuse_cast}) {
              const Uses uses(graph);
              std::vector<bool> gone(graph.nodes.size(), false);
              for (std::size_t i = 0; i < graph.nodes.size(); ++i)
                gone[i] = fuse_node(graph, uses, fused, graph.nodes[i]);
              remove_nodes(graph, gone);
            }
          }};
}

}  // namespace halfstep
