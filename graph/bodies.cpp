#include "graph/bodies.h"

#include <algorithm>

namespace halfstep {
namespace {

using Body = std::shared_ptr<const Graph>;

// Size limit for shapes, axes and indices; weights are not copied into bodies.
constexpr std::size_t kMaxCopiedBytes = 1024;

// Captures of an input that the caller of a function omitted: the bodies then read nothing.
void drop_absent_captures(Node& node) {
  const auto captures = node.captures();
  if (std::find(captures.begin(), captures.end(), kNoValue) == captures.end()) return;
  std::vector<bool> absent;
  for (ValueId id : captures) absent.push_back(id == kNoValue);
  change_bodies(node, [&](Graph& body) {
    for (std::size_t i = 0; i < absent.size(); ++i)
      if (absent[i] && body.captures[i] != kNoValue) body.replace_uses(body.captures[i], kNoValue);
    for (std::size_t n = 0; n < body.nodes.size(); ++n) {
      const Graph::Edit inner = body.edit(n);
      drop_absent_captures(*inner);
    }
  });
  drop_unread_captures(node);
}

void define_as(Graph& graph, ValueId result, ValueId value) {
  if (graph[value].is_constant()) {
    graph[result].constant = graph[value].constant;
    graph[result].dtype = graph[value].dtype;
    graph[result].shape = graph[value].shape;
  } else {
    graph.define({result}, "Identity", kOnnxDomain, {value}, {}, graph[result].name + ".copy");
  }
}

}  // namespace

bool has_body(const Node& node) {
  return std::any_of(node.attributes.begin(), node.attributes.end(),
                     [](const Attributes::Entry& entry) { return std::holds_alternative<Body>(entry.second); });
}

std::vector<const Graph*> bodies(const Node& node) {
  std::vector<const Graph*> result;
  for (const auto& [_, value] : node.attributes)
    if (const Body* body = std::get_if<Body>(&value)) result.push_back(body->get());
  return result;
}

void change_bodies(Node& node, const std::function<void(Graph&)>& change) {
  Attributes changed;
  for (const auto& [name, value] : node.attributes) {
    if (const Body* body = std::get_if<Body>(&value)) {
      auto copy = std::make_shared<Graph>(**body);
      change(*copy);
      changed.set(name, Body(std::move(copy)));
    } else {
      changed.set(name, value);
    }
  }
  node.attributes = std::move(changed);
}

void set_captures(Node& node, const std::vector<std::vector<std::pair<ValueId, ValueId>>>& captured) {
  std::vector<ValueId> outer;
  for (const auto& body : captured)
    for (const auto& [outside, _] : body)
      if (std::find(outer.begin(), outer.end(), outside) == outer.end()) outer.push_back(outside);
  node.inputs.resize(node.inputs.size() - node.capture_count);
  node.inputs.insert(node.inputs.end(), outer.begin(), outer.end());
  node.capture_count = outer.size();
  std::size_t next = 0;
  change_bodies(node, [&](Graph& body) {
    body.captures.assign(outer.size(), kNoValue);
    for (const auto& [outside, inside] : captured.at(next))
      body.captures[std::find(outer.begin(), outer.end(), outside) - outer.begin()] = inside;
    ++next;
  });
}

ValueId add_capture(const Graph& graph, Node& node, std::size_t body, ValueId outside) {
  ValueId inside = kNoValue;
  node.inputs.push_back(outside);
  ++node.capture_count;
  std::size_t next = 0;
  change_bodies(node, [&](Graph& each) {
    each.captures.push_back(kNoValue);
    if (next++ != body) return;
    const Value& value = graph[outside];
    inside = each.add_value(value.name, value.dtype, value.shape);
    each.captures.back() = inside;
  });
  return inside;
}

void drop_unread_captures(Node& node) {
  if (node.capture_count == 0) return;
  std::vector<bool> read(node.capture_count, false);
  for (const Graph* body : bodies(node))
    for (std::size_t i = 0; i < read.size(); ++i) read[i] = read[i] || body->is_read(body->captures[i]);
  if (std::all_of(read.begin(), read.end(), [](bool r) { return r; })) return;
  auto keep_read = [&](std::vector<ValueId>& list, std::size_t first) {
    std::size_t to = first;
    for (std::size_t i = 0; i < read.size(); ++i)
      if (read[i]) list[to++] = list[first + i];
    list.resize(to);
  };
  keep_read(node.inputs, node.operands().size());
  node.capture_count = static_cast<std::size_t>(std::count(read.begin(), read.end(), true));
  change_bodies(node, [&](Graph& body) { keep_read(body.captures, 0); });
}

void hoist_constants(Graph& graph, Node& node, bool only_initializers) {
  std::vector<std::vector<std::pair<ValueId, ValueId>>> captured;
  bool any = false;
  for (const Graph* body : bodies(node)) {
    captured.emplace_back();
    for (std::size_t i = 0; i < node.capture_count; ++i)
      if (body->captures[i] != kNoValue) captured.back().emplace_back(node.captures()[i], body->captures[i]);
  }
  std::size_t next = 0;
  change_bodies(node, [&](Graph& body) {
    auto& pairs = captured[next++];
    for (const ValueId inside : body.values.ids()) {
      Value& value = body[inside];
      if (!value.is_constant() || (only_initializers && !value.is_initializer)) continue;
      const ValueId outside = graph.add_constant(value.name, std::move(value.constant));
      graph[outside].is_initializer = value.is_initializer;
      value.constant = Tensor();
      pairs.emplace_back(outside, inside);
      any = true;
    }
  });
  if (any) set_captures(node, captured);
}

void copy_small_constants(const Graph& graph, const Node& node, Graph& body, bool only_integers) {
  for (std::size_t i = 0; i < node.capture_count; ++i) {
    const Value& outside = graph[node.captures()[i]];
    const ValueId inside = body.captures[i];
    if (inside == kNoValue || !outside.is_constant() || outside.constant.bytes() > kMaxCopiedBytes) continue;
    if (only_integers && outside.dtype != DType::boolean && !is_integer(outside.dtype)) continue;
    body.replace_uses(inside, body.add_constant(body[inside].name, outside.constant));
  }
}

std::vector<ValueId> append_copy(Graph& graph, const Graph& body, const BodyArguments& arguments,
                                 std::string_view prefix) {
  // Values of the body are unused, bound to a value of the graph, or new there.
  ValueMap<ValueId> now(body.values.size(), kNoValue);
  ValueMap<bool> bound(body.values.size(), false);
  auto bind = [&](ValueId inside, ValueId outside) {
    now[inside] = outside;
    bound[inside] = true;
  };
  auto make = [&](ValueId inside) {
    if (inside == kNoValue || bound[inside]) return;
    const Value& value = body[inside];
    const ValueId made = graph.add_value(std::string(prefix) + value.name, value.dtype, value.shape);
    graph[made].constant = value.constant;
    graph[made].is_initializer = value.is_initializer;
    bind(inside, made);
  };
  for (std::size_t i = 0; i < body.inputs.size(); ++i) bind(body.inputs[i], arguments.inputs.at(i));
  for (std::size_t i = 0; i < body.captures.size(); ++i)
    if (body.captures[i] != kNoValue) bind(body.captures[i], arguments.captures.at(i));
  for (std::size_t i = 0; i < body.outputs.size(); ++i) {
    const ValueId inside = body.outputs[i];
    const ValueId wanted = i < arguments.outputs.size() ? arguments.outputs[i] : kNoValue;
    if (wanted != kNoValue && body.producer(inside) && !bound[inside]) bind(inside, wanted);
  }
  for (const ValueId inside : body.values.ids())
    if (body[inside].is_constant()) make(inside);
  auto id_of = [&](ValueId inside) { return inside == kNoValue ? kNoValue : now[inside]; };
  for (const Node& node : body.nodes) {
    for (ValueId out : node.outputs) make(out);
    std::vector<ValueId> inputs, outputs;
    for (ValueId in : node.inputs) inputs.push_back(id_of(in));
    for (ValueId out : node.outputs) outputs.push_back(id_of(out));
    const std::size_t n = graph.define(std::move(outputs), node.op, node.domain, std::move(inputs), node.attributes,
                                       std::string(prefix) + node.name);
    if (node.capture_count == 0) continue;
    const Graph::Edit copy = graph.edit(n);
    copy->capture_count = node.capture_count;
    drop_absent_captures(*copy);
  }
  std::vector<ValueId> results;
  for (std::size_t i = 0; i < body.outputs.size(); ++i) {
    const ValueId made = id_of(body.outputs[i]);
    const ValueId wanted = i < arguments.outputs.size() ? arguments.outputs[i] : kNoValue;
    if (wanted != kNoValue && wanted != made && made != kNoValue) define_as(graph, wanted, made);
    results.push_back(wanted != kNoValue ? wanted : made);
  }
  return results;
}

}  // namespace halfstep
