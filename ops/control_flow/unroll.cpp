#include "ops/control_flow/unroll.h"

#include <algorithm>

#include <fmt/format.h>

#include "graph/bodies.h"
#include "ops/control_flow/control_flow.h"
#include <halfstep/graph/shape.h>

namespace halfstep {
namespace {

// A loop that unrolls to more nodes than this stays a loop: compiling it, and keeping every step's values for the
// gradient, would cost more than running it.
constexpr std::int64_t kMostUnrolledNodes = 50'000;
// Nested loops multiply: no loop is unrolled in a graph that already has this number of values.
constexpr std::size_t kMostValues = 500'000;

std::int64_t nodes_of(const Graph& graph) {
  std::int64_t count = 1;
  for (const Node& node : graph.nodes) {
    ++count;
    for (const Graph* body : bodies(node)) count += nodes_of(*body);
  }
  return count;
}

std::int64_t scan_length(const Graph& graph, const Node& scan, const LoopForm& form) {
  for (std::size_t i = 0; i < form.scan_inputs; ++i) {
    const Shape& shape = graph[scan.inputs[form.states + i]].shape;
    if (!shape.is_static()) return kUnknownTrips;
  }
  if (form.scan_inputs == 0) return kUnknownTrips;
  const Shape& shape = graph[scan.inputs[form.states]].shape;
  return shape[normalize_axis(form.input_axes[0], shape.rank())];
}

struct Unrolling {
  std::int64_t trips = kUnknownTrips;
  std::string obstacle;  // empty if it can be unrolled
};

Unrolling plan(const Graph& graph, const Node& node) {
  const LoopForm form = loop_form(node);
  const std::int64_t size = nodes_of(*form.body), most = most_copies(graph, *form.body);
  Unrolling result;
  if (most == 0) {
    result.obstacle = fmt::format("the graph has more than {} values without its iterations", kMostValues);
    return result;
  }
  result.trips = node.is("Scan") ? scan_length(graph, node, form) : constant_trips(graph, node, most);
  if (result.trips == kUnknownTrips) {
    result.obstacle =
        node.is("Scan")
            ? "the shapes of its scan inputs are not known"
            : fmt::format("its trip count or condition depends on data, or makes more than {} iterations", most);
  } else if (result.trips > most) {
    result.obstacle = fmt::format("{} iterations of a body of {} nodes are more than {} nodes", result.trips, size,
                                  kMostUnrolledNodes);
  } else if (result.trips == 0) {
    for (std::size_t i = 0; i < form.scan_outputs; ++i) {
      const ValueId out = node.output(form.states + i);
      if (out != kNoValue && !graph[out].shape.is_static())
        result.obstacle = "it makes no iteration, and the shape of its scan outputs is not known";
    }
  }
  return result;
}

void append_branch(Graph& graph, const Node& node) {
  const bool taken = to_int64s(graph[node.inputs[0]].constant).at(0) != 0;
  BodyArguments arguments{.captures = {node.captures().begin(), node.captures().end()}, .outputs = node.outputs};
  append_copy(graph, body_of(node, taken ? "then_branch" : "else_branch"), arguments, node.name + ".");
}

class Unroller {
 public:
  Unroller(Graph& graph, Node node, std::int64_t trips) : graph_(graph), node_(std::move(node)), trips_(trips) {
    hoist_constants(graph_, node_, /*only_initializers=*/false);
  }

  void run() {
    const LoopForm form = loop_form(node_);
    split_scan_inputs(form);
    std::vector<ValueId> states(node_.inputs.begin() + static_cast<std::ptrdiff_t>(form.first_operand),
                                node_.inputs.begin() + static_cast<std::ptrdiff_t>(form.first_operand + form.states));
    std::vector<std::vector<ValueId>> scanned(form.scan_outputs);
    for (std::int64_t i = 0; i < trips_; ++i) {
      BodyArguments arguments;
      const std::string prefix = fmt::format("{}.{}.", node_.name, i);
      if (node_.is("Loop")) {
        arguments.inputs.push_back(graph_.add_constant(prefix + "iteration", Tensor::scalar(i)));
        arguments.inputs.push_back(true_value());
      }
      arguments.inputs.insert(arguments.inputs.end(), states.begin(), states.end());
      for (std::size_t k = 0; k < form.scan_inputs; ++k)
        arguments.inputs.push_back(slices_[k][form.input_reversed[k] ? trips_ - 1 - i : i]);
      arguments.captures.assign(node_.captures().begin(), node_.captures().end());
      const std::vector<ValueId> results = append_copy(graph_, *form.body, arguments, prefix);
      for (std::size_t s = 0; s < form.states; ++s) states[s] = results[form.first_output + s];
      for (std::size_t k = 0; k < form.scan_outputs; ++k)
        scanned[k].push_back(results[form.first_output + form.states + k]);
    }
    for (std::size_t s = 0; s < form.states; ++s)
      if (node_.output(s) != kNoValue) append("Identity", {states[s]}, {node_.output(s)}, {}, "result");
    for (std::size_t k = 0; k < form.scan_outputs; ++k) stack(form, k, std::move(scanned[k]));
  }

 private:
  void append(std::string_view op, std::vector<ValueId> inputs, std::vector<ValueId> outputs, Attributes attributes,
              std::string_view suffix) {
    graph_.define(std::move(outputs), op, kOnnxDomain, std::move(inputs), std::move(attributes),
                  node_.name + "." + std::string(suffix));
  }

  ValueId value(std::string_view suffix) { return graph_.add_value(node_.name + "." + std::string(suffix)); }

  ValueId true_value() {
    if (true_ == kNoValue) true_ = graph_.add_constant(node_.name + ".true", Tensor::scalar(true));
    return true_;
  }

  ValueId ints(std::string_view suffix, std::int64_t number) {
    return graph_.add_constant(node_.name + "." + std::string(suffix), Tensor::of<std::int64_t>({number}));
  }

  // One Split for all iterations: its gradient is a single Concat.
  void split_scan_inputs(const LoopForm& form) {
    slices_.resize(form.scan_inputs);
    if (trips_ == 0) return;
    for (std::size_t k = 0; k < form.scan_inputs; ++k) {
      const std::int64_t axis = form.input_axes[k];
      const std::string name = fmt::format("input{}", k);
      std::vector<ValueId> parts;
      for (std::int64_t i = 0; i < trips_; ++i) parts.push_back(value(fmt::format("{}.{}.kept", name, i)));
      append("Split", {node_.inputs[form.states + k]}, parts, {{"axis", axis}, {"num_outputs", trips_}}, name);
      const ValueId axes = ints(name + ".axis", axis);
      for (std::int64_t i = 0; i < trips_; ++i) {
        const std::string each = fmt::format("{}.{}", name, i);
        slices_[k].push_back(value(each));
        append("Squeeze", {parts[i], axes}, {slices_[k].back()}, {}, each);
      }
    }
  }

  void stack(const LoopForm& form, std::size_t k, std::vector<ValueId> scanned) {
    const ValueId out = node_.output(form.states + k);
    if (out == kNoValue) return;
    if (scanned.empty()) {
      graph_[out].constant = Tensor(graph_[out].dtype, graph_[out].shape);
      return;
    }
    if (form.output_reversed[k]) std::reverse(scanned.begin(), scanned.end());
    const std::string name = fmt::format("output{}", k);
    const ValueId axes = ints(name + ".axis", form.output_axes[k]);
    for (std::size_t i = 0; i < scanned.size(); ++i) {
      const std::string each = fmt::format("{}.{}", name, i);
      const ValueId wide = value(each);
      append("Unsqueeze", {scanned[i], axes}, {wide}, {}, each);
      scanned[i] = wide;
    }
    append("Concat", std::move(scanned), {out}, {{"axis", form.output_axes[k]}}, name);
  }

  Graph& graph_;
  Node node_;
  std::int64_t trips_;
  ValueId true_ = kNoValue;
  std::vector<std::vector<ValueId>> slices_;
};

}  // namespace

std::int64_t most_copies(const Graph& graph, const Graph& body) {
  if (graph.values.size() > kMostValues) return 0;
  return std::max<std::int64_t>(kMostUnrolledNodes / nodes_of(body), 1);
}

std::string reason_not_inlined(const Graph& graph, const Node& node) {
  if (!node.is("If")) return plan(graph, node).obstacle;
  const Value& condition = graph[node.inputs[0]];
  return condition.is_constant() && condition.constant.count() == 1 ? "" : "its condition depends on data";
}

void append_inlined(Graph& graph, const Node& node) {
  if (node.is("If"))
    append_branch(graph, node);
  else
    Unroller(graph, node, plan(graph, node).trips).run();
}

}  // namespace halfstep
