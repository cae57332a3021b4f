#include "passes/load/random_numbers.h"

#include <fmt/format.h>

#include "graph/bodies.h"
#include "ops/random/random_numbers.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// Dropouts count their streams from 0.
constexpr std::int64_t kStepStreams = 0x40000000, kEvaluationStreams = 0x80000000, kSeededStream = 0xFFFFFFFF;

ValueId existing_counter(const Graph& graph) {
  for (const State& state : graph.states)
    if (state.role == StateRole::random) return state.value;
  return kNoValue;
}

void refuse_in_bodies(const Node& owner, const Graph& body) {
  for (const Node& node : body.nodes) {
    if (ops::draws_numbers(node))
      throw_input_error("random numbers outside of loops and branches whose course depends on data",
                        fmt::format("{} '{}' in {} '{}'", node.op, node.name, owner.op, owner.name),
                        "export the model without them, or with a fixed number of iterations");
    for (const Graph* inner : bodies(node)) refuse_in_bodies(owner, *inner);
  }
}

class Drawing {
 public:
  Drawing(Graph& graph, std::int64_t seed, DrawingFor use)
      : b_(graph), seed_(seed), use_(use), next_stream_(use == DrawingFor::steps ? kStepStreams : kEvaluationStreams) {}

  /// The node's result, as nodes appended to the graph.
  Expr result_of(const Node& node) {
    Graph& graph = b_.graph();
    b_.set_context(node.name + ".");
    const Value& out = graph[node.outputs.at(0)];
    const DType dtype = out.dtype;
    const Shape shape = out.shape;
    if (!shape.is_static())
      throw_input_error(fmt::format("a known shape of {} '{}'", node.op, node.name), shape.to_string(),
                        "give the shapes of all inputs, or export the model with them");
    if (node.op == "Bernoulli") {
      const Expr hit = b_.op("Less", {uniform(node, shape), b_.cast(b_.expr(node.inputs.at(0)), DType::f32)});
      return b_.cast(hit, dtype);
    }
    if (node.op == "Multinomial") return multinomial(node, dtype, shape);
    return b_.cast(numbers(node, ops::distribution_of(node), shape), dtype);
  }

 private:
  Expr counter() {
    Graph& graph = b_.graph();
    if (use_ == DrawingFor::steps) return b_.expr(step_counter(graph));
    ValueId id = existing_counter(graph);
    if (id == kNoValue) id = graph.add_state(kDropoutState, Tensor::scalar(std::int64_t{0}), StateRole::random);
    return b_.expr(id);
  }

  Expr numbers(const Node& node, const ops::Distribution& distribution, const Shape& shape) {
    const bool seeded = ops::has_seed(node);
    return b_.own("PhiloxRandom", {counter()},
                  {{"seed", seeded ? static_cast<std::int64_t>(ops::seed_of(node)) : seed_},
                   {"stream", seeded ? kSeededStream : next_stream_++},
                   {"shape", shape.dims()},
                   {"normal", std::int64_t{distribution.is_normal}},
                   {"first", distribution.first},
                   {"spread", distribution.spread}});
  }
  Expr uniform(const Node& node, const Shape& shape) { return numbers(node, {}, shape); }

  // The largest of logits with Gumbel noise is a draw by their softmax.
  Expr multinomial(const Node& node, DType dtype, const Shape& shape) {
    const Expr logits = b_.cast(b_.expr(node.inputs.at(0)), DType::f32);
    const std::int64_t batch = shape[0], samples = shape[1], classes = logits.shape()[1];
    const Expr u = uniform(node, {batch, samples, classes});
    const Expr noise = -b_.op("Log", {-b_.op("Log", {u})});
    const Expr scores = b_.reshape(logits, {batch, 1, classes}) + noise;
    return b_.cast(b_.op("ArgMax", {scores}, {{"axis", std::int64_t{2}}, {"keepdims", std::int64_t{0}}}), dtype);
  }

  Builder b_;
  std::int64_t seed_;
  DrawingFor use_;
  std::int64_t next_stream_;
};

}  // namespace

ValueId step_counter(Graph& graph) {
  if (const ValueId known = existing_counter(graph); known != kNoValue) return known;
  const ValueId counter = graph.add_state(kDropoutState, Tensor::scalar(std::int64_t{0}), StateRole::random);
  Builder b(graph);
  const ValueId next = (b.expr(counter) + 1).id();
  graph.states[graph.state_of(counter)].next = next;
  return counter;
}

Pass draw_by_counter(std::int64_t seed, DrawingFor use) {
  return {"draw_by_counter", [seed, use](Graph& graph) {
            bool any = false;
            for (const Node& node : graph.nodes) {
              any = any || ops::draws_numbers(node);
              for (const Graph* body : bodies(node)) refuse_in_bodies(node, *body);
            }
            if (!any) return;
            graph.opsets.try_emplace(std::string(kOwnDomain), 1);
            Drawing drawing(graph, seed, use);
            for (Node& node : graph.take_nodes()) {
              if (!ops::draws_numbers(node)) {
                graph.append(std::move(node));
                continue;
              }
              const Expr result = drawing.result_of(node);
              graph.define({node.outputs[0]}, "Identity", kOnnxDomain, {result.id()}, {}, node.name);
            }
          }};
}

}  // namespace halfstep
