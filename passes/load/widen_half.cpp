// Half types out of a model, before precision is chosen.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "graph/bodies.h"
#include "ops/type_attributes.h"
#include <halfstep/ops/op_traits.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

bool has_half(const Graph& graph) {
  return std::any_of(graph.values.begin(), graph.values.end(), [](const Value& v) { return is_half(v.dtype); }) ||
         std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
           const std::vector<const Graph*> inner = bodies(node);
           return std::any_of(inner.begin(), inner.end(), [](const Graph* body) { return has_half(*body); });
         });
}

void widen_attributes(Node& node) {
  for (const std::string_view name : ops::kTypeAttributes) {
    const Attribute* attribute = node.attributes.find(name);
    const auto* type = attribute ? std::get_if<std::int64_t>(attribute) : nullptr;
    const bool half = type && (*type == static_cast<int>(DType::f16) || *type == static_cast<int>(DType::bf16));
    if (half) node.attributes.set(name, static_cast<std::int64_t>(DType::f32));
  }
  std::vector<Attributes::Entry> tensors;
  for (const Attributes::Entry& entry : node.attributes)
    if (const auto* tensor = std::get_if<Tensor>(&entry.second); tensor && is_half(tensor->dtype()))
      tensors.emplace_back(entry.first, convert(*tensor, DType::f32));
  for (Attributes::Entry& entry : tensors) node.attributes.set(entry.first, std::move(entry.second));
}

// A cast between a half type and f32 has nothing left to do. It goes now, so that a parameter or a running statistic
// behind it is read under its own name, and a Softmax before it is the model's last node.
bool is_idle_cast(const Graph& graph, const Node& node) {
  return traits_of(node).movement == Movement::convert && graph[node.inputs[0]].dtype == DType::f32 &&
         graph[node.outputs[0]].dtype == DType::f32;
}

// Whether `from` may become an output in place of `to`, and take its name.
bool can_be_output(const Graph& graph, ValueId from) {
  return !graph.is_input(from) && !graph.is_output(from) && !graph[from].is_constant() &&
         std::find(graph.captures.begin(), graph.captures.end(), from) == graph.captures.end();
}

void bypass(Graph& graph, ValueId from, ValueId to) {
  if (graph.is_output(to)) {
    const std::string name = graph[to].name;
    graph.rename(to, name + ".cast");
    graph.rename(from, name);
  }
  graph.replace_uses(to, from);
}

void widen(Graph& graph) {
  for (Value& value : graph.values) {
    if (!is_half(value.dtype)) continue;
    value.dtype = DType::f32;
    if (value.is_constant()) value.constant = convert(value.constant, DType::f32);
  }
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Graph::Edit node = graph.edit(n);
    widen_attributes(*node);
    if (has_body(*node)) change_bodies(*node, widen);
  }
  std::vector<bool> gone(graph.nodes.size(), false);
  // In order: what an earlier cast gave is what its source gives when a later one is looked at.
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    gone[i] = is_idle_cast(graph, node) && (!graph.is_output(node.outputs[0]) || can_be_output(graph, node.inputs[0]));
    if (gone[i]) bypass(graph, node.inputs[0], node.outputs[0]);
  }
  graph.remove_nodes(gone);
}

}  // namespace

Pass widen_half() {
  return {"widen_half", [](Graph& graph) {
            if (has_half(graph)) widen(graph);
          }};
}

}  // namespace halfstep
