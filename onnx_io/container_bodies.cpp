#include "onnx_io/container_bodies.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "graph/bodies.h"
#include "ops/control_flow/control_flow.h"
#include "ops/control_flow/unroll.h"

namespace halfstep {
namespace {

constexpr const char* kKnownCourse = "a loop over sequences whose course is known";

template <class Ids>
bool any_container(const Ids& ids, const Containers& containers) {
  return std::any_of(ids.begin(), ids.end(), [&](ValueId id) { return containers.contains(id); });
}

bool are_alike(const std::optional<Container>& a, const std::optional<Container>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->is_present == b->is_present && a->elements.size() == b->elements.size();
}

}  // namespace

bool deals_in_containers(const Node& node, const Containers& containers) {
  const std::vector<const Graph*> inner = bodies(node);
  return any_container(node.inputs, containers) ||
         std::any_of(inner.begin(), inner.end(), [](const Graph* body) { return has_container_operators(*body); });
}

bool can_be_written_out(const Graph& graph, const Node& node, const Containers& containers) {
  const std::string obstacle = reason_not_inlined(graph, node);
  if (!obstacle.empty() && any_container(node.operands(), containers)) refuse_container(node, kKnownCourse, obstacle);
  return obstacle.empty();
}

Containers append_map(Graph& graph, const Node& node, const Containers& containers) {
  const auto over = containers.find(node.input(0));
  if (over == containers.end()) refuse_container(node, "a sequence", "none as the first operand");
  const std::size_t length = over->second.elements.size();
  const Graph& body = body_of(node, "body");
  if (body.inputs.size() != node.operands().size() || body.outputs.size() != node.outputs.size())
    refuse_container(node, "a body with as many inputs and outputs as the node",
                     fmt::format("{} and {}", body.inputs.size(), body.outputs.size()));
  if (static_cast<std::int64_t>(length) > most_copies(graph, body))
    refuse_container(node, fmt::format("at most {} copies of its body", most_copies(graph, body)),
                     fmt::format("a sequence of {}", length));
  std::vector<Container> results(node.outputs.size());
  for (std::size_t i = 0; i < length; ++i) {
    BodyArguments arguments{.captures = {node.captures().begin(), node.captures().end()}};
    for (ValueId in : node.operands()) {
      const auto container = containers.find(in);
      if (container == containers.end()) {
        arguments.inputs.push_back(in);
        continue;
      }
      if (container->second.elements.size() != length)
        refuse_container(node, fmt::format("sequences of {} elements", length),
                         fmt::format("one of {}", container->second.elements.size()));
      arguments.inputs.push_back(container->second.elements[i]);
    }
    const std::vector<ValueId> made = append_copy(graph, body, arguments, fmt::format("{}.{}.", node.name, i));
    for (std::size_t k = 0; k < results.size(); ++k) results[k].elements.push_back(made[k]);
  }
  Containers named;
  for (std::size_t k = 0; k < results.size(); ++k)
    if (node.outputs[k] != kNoValue) named[node.outputs[k]] = std::move(results[k]);
  return named;
}

std::vector<Containers> capture_elements(const Graph& graph, Node& node, const Containers& containers) {
  std::vector<Containers> inside;
  std::vector<std::vector<std::pair<ValueId, ValueId>>> captured;
  change_bodies(node, [&](Graph& body) {
    auto& pairs = captured.emplace_back();
    std::unordered_map<ValueId, ValueId> inside_of;
    auto& known = inside.emplace_back();
    for (std::size_t i = 0; i < node.capture_count; ++i)
      if (body.captures[i] != kNoValue && !containers.contains(node.captures()[i]))
        inside_of.insert(pairs.emplace_back(node.captures()[i], body.captures[i]));
    auto capture = [&](ValueId outside) {
      if (const auto seen = inside_of.find(outside); seen != inside_of.end()) return seen->second;
      const Value& value = graph[outside];
      const ValueId made = body.add_value(value.name, value.dtype, value.shape);
      return inside_of.insert(pairs.emplace_back(outside, made)).first->second;
    };
    for (std::size_t i = 0; i < node.capture_count; ++i) {
      const auto container = containers.find(node.captures()[i]);
      if (body.captures[i] == kNoValue || container == containers.end()) continue;
      Container& copy = known[body.captures[i]] = {.is_present = container->second.is_present};
      for (ValueId element : container->second.elements) copy.elements.push_back(capture(element));
    }
  });
  set_captures(node, captured);
  return inside;
}

void spread_results(Graph& graph, Node& node, const std::vector<SpreadOutputs>& bodies, Containers& containers) {
  for (const SpreadOutputs& outputs : bodies) {
    const bool any = std::any_of(outputs.begin(), outputs.end(), [](const auto& output) { return output.has_value(); });
    if (any && !node.is("If")) refuse_container(node, kKnownCourse, reason_not_inlined(graph, node));
  }
  if (!node.is("If")) return;
  std::vector<ValueId> outputs;
  for (std::size_t k = 0; k < node.outputs.size(); ++k) {
    const std::optional<Container>& first = bodies.at(0).at(k);
    for (const SpreadOutputs& other : bodies)
      if (!are_alike(first, other.at(k)))
        refuse_container(node, "a constant condition, or branches that give as many tensors each", "others");
    if (!first) {
      outputs.push_back(node.outputs[k]);
      continue;
    }
    Container made{.is_present = first->is_present};
    for (std::size_t i = 0; i < first->elements.size(); ++i)
      made.elements.push_back(graph.add_value(fmt::format("{}.{}.{}", node.name, k, i)));
    outputs.insert(outputs.end(), made.elements.begin(), made.elements.end());
    if (node.outputs[k] != kNoValue) containers[node.outputs[k]] = std::move(made);
  }
  node.outputs = std::move(outputs);
}

}  // namespace halfstep
