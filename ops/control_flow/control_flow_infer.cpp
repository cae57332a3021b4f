// Type and shape inference from the bodies of If, Loop and Scan.
#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "graph/bodies.h"
#include "ops/control_flow/control_flow.h"
#include "ops/fold.h"
#include "ops/interpreter.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep {
namespace {

constexpr const char* kCheckModel = "check the model with the ONNX checker, and export it again";

[[noreturn]] void refuse(const Node& node, const std::string& required, const std::string& found) {
  throw_input_error(required, fmt::format("{} in {} '{}'", found, node.op, node.name), kCheckModel);
}

Shape merged(const Shape& a, const Shape& b) {
  if (!a.is_ranked() || !b.is_ranked() || a.rank() != b.rank()) return Shape::unranked();
  Shape result = a;
  for (std::size_t axis = 0; axis < a.rank(); ++axis)
    if (a[axis] != b[axis]) result[axis] = Shape::kUnknown;
  return result;
}

Shape without_axis(const Shape& shape, std::int64_t axis) {
  if (!shape.is_ranked()) return shape;
  std::vector<std::int64_t> dims = shape.dims();
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(normalize_axis(axis, shape.rank())));
  return Shape(std::move(dims));
}

Shape with_axis(const Shape& shape, std::int64_t axis, std::int64_t extent) {
  if (!shape.is_ranked()) return shape;
  std::vector<std::int64_t> dims = shape.dims();
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(normalize_axis(axis, shape.rank() + 1)), extent);
  return Shape(std::move(dims));
}

void set_type(Value& value, DType dtype, const Shape& shape) {
  if (value.is_constant()) return;
  value.dtype = dtype;
  value.shape = shape;
}

void set_result(Graph& graph, const Node& node, std::size_t i, const Graph& body, std::size_t body_output,
                const Shape& shape) {
  const ValueId out = node.output(i);
  const Value& inside = body[body.outputs[body_output]];
  if (inside.dtype == DType::undefined)
    refuse(node, "tensors as the results of bodies (sequences and optional values are not supported)",
           "'" + inside.name + "', whose type is none");
  if (out != kNoValue) set_type(graph[out], inside.dtype, shape);
}

[[noreturn]] void fail_as(const Graph& branch) {
  const Attributes& a = branch.nodes[0].attributes;
  throw_input_error(a.get_string("required", ""), a.get_string("found", ""), a.get_string("remedy", ""));
}

void infer_branches(const Graph& graph, Node& node) {
  change_bodies(node, [&](Graph& body) {
    try {
      type_body_inputs(graph, node, body);
      infer_graph(body);
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::input) throw;
      make_failing(body, error);
    }
  });
  const Graph &yes = body_of(node, "then_branch"), &no = body_of(node, "else_branch");
  if (!is_failing(yes) && !is_failing(no)) return;
  const Value& condition = graph[node.inputs.at(0)];
  const bool is_known = condition.is_constant() && condition.constant.count() == 1;
  const Graph& taken = is_known && to_int64s(condition.constant)[0] == 0 ? no : yes;
  if (is_failing(taken) && (is_known || is_failing(no))) fail_as(taken);
  // A branch that is never taken has the types of the other branch.
  std::vector<std::pair<DType, Shape>> types;
  const Graph& good = is_failing(yes) ? no : yes;
  for (ValueId out : good.outputs) types.emplace_back(good[out].dtype, good[out].shape);
  change_bodies(node, [&](Graph& body) {
    if (!is_failing(body)) return;
    for (std::size_t i = 0; i < std::min(types.size(), body.outputs.size()); ++i)
      set_type(body[body.outputs[i]], types[i].first, types[i].second);
  });
}

void infer_if(Graph& graph, Node& node) {
  infer_branches(graph, node);
  const Graph &yes = body_of(node, "then_branch"), &no = body_of(node, "else_branch");
  if (!yes.inputs.empty() || !no.inputs.empty()) refuse(node, "branches without inputs", "some");
  if (yes.outputs.size() != no.outputs.size() || node.outputs.size() > yes.outputs.size())
    refuse(node, fmt::format("branches with {} results", node.outputs.size()),
           fmt::format("{} and {}", yes.outputs.size(), no.outputs.size()));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const Value &a = yes[yes.outputs[i]], &b = no[no.outputs[i]];
    if (a.dtype != b.dtype && b.dtype != DType::undefined)
      refuse(node, "branches with results of the same types",
             fmt::format("{} and {} for result {}", name_of(a.dtype), name_of(b.dtype), i));
    set_result(graph, node, i, yes, i, merged(a.shape, b.shape));
  }
}

// Repeats inference of the body until the shapes of carried values hold for every iteration.
void settle_states(const Graph& graph, const Node& node, const LoopForm& form, Graph& body) {
  std::vector<bool> widened(form.states, false);
  for (std::size_t s = 0; s < form.states; ++s)
    body[body.inputs[form.first_input + s]].shape = graph[node.inputs[form.first_operand + s]].shape;
  for (bool settled = false; !settled;) {
    infer_graph(body);
    settled = true;
    for (std::size_t s = 0; s < form.states; ++s) {
      Value& before = body[body.inputs[form.first_input + s]];
      const Value& after = body[body.outputs[form.first_output + s]];
      if (after.dtype != before.dtype && after.dtype != DType::undefined)
        refuse(node, "values that keep their type from one iteration to the next",
               fmt::format("{} '{}' that becomes {}", name_of(before.dtype), before.name, name_of(after.dtype)));
      Shape both = merged(before.shape, after.shape);
      if (both == before.shape) continue;
      if (widened[s]) both = Shape::unranked();
      widened[s] = true;
      before.shape = both;
      settled = false;
    }
  }
}

std::int64_t scan_length(const Graph& graph, const Node& node, const LoopForm& form) {
  std::int64_t length = Shape::kUnknown;
  for (std::size_t i = 0; i < form.scan_inputs; ++i) {
    const Shape& shape = graph[node.inputs[form.states + i]].shape;
    if (!shape.is_ranked()) continue;
    const std::int64_t extent = shape[normalize_axis(form.input_axes[i], shape.rank())];
    if (extent == Shape::kUnknown) continue;
    if (length != Shape::kUnknown && extent != length)
      refuse(node, "scan inputs of one length", fmt::format("{} and {}", length, extent));
    length = extent;
  }
  return length;
}

void infer_loop(Graph& graph, Node& node) {
  {
    const LoopForm form = loop_form(node);
    change_bodies(node, [&](Graph& body) {
      type_body_inputs(graph, node, body);
      settle_states(graph, node, form, body);
    });
  }
  const LoopForm form = loop_form(node);
  const Graph& body = *form.body;
  for (std::size_t s = 0; s < form.states; ++s)
    set_result(graph, node, s, body, form.first_output + s, body[body.inputs[form.first_input + s]].shape);
  if (form.scan_outputs == 0) return;
  constexpr std::int64_t kMostSimulated = 100'000;
  const std::int64_t trips =
      node.is("Scan") ? scan_length(graph, node, form) : constant_trips(graph, node, kMostSimulated);
  for (std::size_t i = 0; i < form.scan_outputs; ++i) {
    const std::size_t inside = form.first_output + form.states + i;
    set_result(graph, node, form.states + i, body, inside,
               with_axis(body[body.outputs[inside]].shape, form.output_axes[i], trips));
  }
}

}  // namespace

void make_failing(Graph& branch, const Error& error) {
  Graph failing;
  failing.name = branch.name;
  auto copy = [&](ValueId id) {
    return id == kNoValue ? kNoValue : failing.add_value(branch[id].name, branch[id].dtype, branch[id].shape);
  };
  for (ValueId id : branch.captures) failing.captures.push_back(copy(id));
  for (ValueId id : branch.outputs) failing.outputs.push_back(copy(id));
  failing.define(failing.outputs, "Fail", kOwnDomain, {},
                 {{"required", error.required()}, {"found", error.found()}, {"remedy", error.remedy()}}, "fail");
  branch = std::move(failing);
}

bool is_failing(const Graph& branch) { return branch.nodes.size() == 1 && branch.nodes[0].is_own("Fail"); }

const Graph& body_of(const Node& node, std::string_view attribute) {
  const Attribute* value = node.attributes.find(attribute);
  const auto* body = value ? std::get_if<std::shared_ptr<const Graph>>(value) : nullptr;
  if (!body) refuse(node, "a subgraph '" + std::string(attribute) + "'", "none");
  return **body;
}

LoopForm loop_form(const Node& node) {
  LoopForm form{};
  form.body = &body_of(node, "body");
  const bool is_scan = node.is("Scan");
  const std::size_t operands = node.operands().size();
  form.first_operand = form.first_input = is_scan ? 0 : 2;
  form.first_output = is_scan ? 0 : 1;
  const std::int64_t scanned = is_scan ? node.attributes.get_int("num_scan_inputs", 0) : 0;
  if (scanned < 0 || static_cast<std::size_t>(scanned) + form.first_operand > operands)
    refuse(node, "operands for every scan input", fmt::format("{} operands", operands));
  form.scan_inputs = static_cast<std::size_t>(scanned);
  form.states = operands - form.first_operand - form.scan_inputs;
  const Graph& body = *form.body;
  if (body.inputs.size() != form.first_input + form.states + form.scan_inputs)
    refuse(node, fmt::format("a body with {} inputs", form.first_input + form.states + form.scan_inputs),
           std::to_string(body.inputs.size()));
  if (body.outputs.size() < form.first_output + form.states ||
      node.outputs.size() > body.outputs.size() - form.first_output)
    refuse(node, "a body that gives every carried value and every result",
           fmt::format("{} of them", body.outputs.size()));
  form.scan_outputs = body.outputs.size() - form.first_output - form.states;
  auto read = [&](const char* name, std::size_t count) {
    std::vector<std::int64_t> values = node.attributes.get_ints(name);
    if (values.empty()) values.assign(count, 0);
    if (values.size() != count)
      refuse(node, fmt::format("{} entries in '{}'", count, name), std::to_string(values.size()));
    return values;
  };
  form.input_axes = read("scan_input_axes", form.scan_inputs);
  form.output_axes = read("scan_output_axes", form.scan_outputs);
  for (std::int64_t d : read("scan_input_directions", form.scan_inputs)) form.input_reversed.push_back(d != 0);
  for (std::int64_t d : read("scan_output_directions", form.scan_outputs)) form.output_reversed.push_back(d != 0);
  for (std::size_t i = form.first_operand; i < operands; ++i)
    if (node.inputs[i] == kNoValue) refuse(node, "every carried and scanned operand", "an absent one");
  return form;
}

void type_body_inputs(const Graph& graph, const Node& node, Graph& body) {
  for (std::size_t i = 0; i < node.capture_count; ++i) {
    const Value& outside = graph[node.captures()[i]];
    if (body.captures[i] != kNoValue) set_type(body[body.captures[i]], outside.dtype, outside.shape);
  }
  if (node.is("If")) return;
  const LoopForm form = loop_form(node);
  if (node.is("Loop")) {
    set_type(body[body.inputs[0]], DType::i64, Shape{});
    set_type(body[body.inputs[1]], DType::boolean, Shape{});
  }
  for (std::size_t s = 0; s < form.states; ++s) {
    const Value& initial = graph[node.inputs[form.first_operand + s]];
    Shape shape = initial.shape;
    if (node.is("Loop"))
      for (std::size_t axis = 0; axis < shape.rank(); ++axis) shape[axis] = Shape::kUnknown;
    set_type(body[body.inputs[form.first_input + s]], initial.dtype, shape);
  }
  for (std::size_t i = 0; i < form.scan_inputs; ++i) {
    const Value& whole = graph[node.inputs[form.states + i]];
    set_type(body[body.inputs[form.states + i]], whole.dtype, without_axis(whole.shape, form.input_axes[i]));
  }
}

void infer_control_flow(Graph& graph, Node& node) { node.is("If") ? infer_if(graph, node) : infer_loop(graph, node); }

std::int64_t constant_trips(const Graph& graph, const Node& loop, std::int64_t most) {
  const LoopForm form = loop_form(loop);
  const ValueId limit = loop.input(0), condition = loop.input(1);
  auto is_known = [&](ValueId id) { return graph[id].is_constant(); };
  if ((limit != kNoValue && !is_known(limit)) || (condition != kNoValue && !is_known(condition))) return kUnknownTrips;
  const std::int64_t trips_at_most = limit == kNoValue ? std::numeric_limits<std::int64_t>::max()
                                                       : ops::single_int(graph[limit].constant, "a trip count");
  bool goes_on = condition == kNoValue || ops::single_int(graph[condition].constant, "a condition") != 0;

  // The part of the body that computes the condition, including the carried values that it depends on.
  Graph part;
  std::vector<std::size_t> states;
  for (bool grown = true; grown;) {
    part = *form.body;
    part.outputs = {form.body->outputs[0]};
    for (std::size_t s : states) part.outputs.push_back(form.body->outputs[form.first_output + s]);
    part.remove_dead();
    grown = false;
    for (std::size_t s = 0; s < form.states; ++s)
      if (part.is_read(part.inputs[form.first_input + s]) &&
          std::find(states.begin(), states.end(), s) == states.end()) {
        if (!is_known(loop.inputs[form.first_operand + s])) return kUnknownTrips;
        states.push_back(s);
        grown = true;
      }
    for (std::size_t i = 0; i < loop.capture_count; ++i)
      if (part.captures[i] != kNoValue && part.is_read(part.captures[i]) && !is_known(loop.captures()[i]))
        return kUnknownTrips;
  }
  if (!std::all_of(part.nodes.begin(), part.nodes.end(), is_deterministic)) return kUnknownTrips;

  const bool steady = states.empty() && !part.is_read(part.inputs[0]);
  std::vector<Tensor> inputs(part.inputs.size()), captures;
  for (std::size_t s : states) inputs[form.first_input + s] = graph[loop.inputs[form.first_operand + s]].constant;
  for (ValueId id : loop.captures()) captures.push_back(graph[id].constant);
  Interpreter interpreter(part);
  std::int64_t trips = 0;
  while (goes_on && trips < trips_at_most) {
    if (trips == most) return kUnknownTrips;
    inputs[0] = Tensor::scalar(trips++);
    inputs[1] = Tensor::scalar(true);
    const std::vector<Tensor> results = interpreter.run(inputs, captures);
    goes_on = ops::single_int(results[0], "a condition") != 0;
    // If nothing changes between iterations, all of them have the same condition.
    if (goes_on && steady) return limit == kNoValue ? kUnknownTrips : trips_at_most;
    for (std::size_t i = 0; i < states.size(); ++i) inputs[form.first_input + states[i]] = results[i + 1];
  }
  return trips;
}

}  // namespace halfstep
