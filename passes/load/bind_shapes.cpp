#include <optional>
#include <utility>

#include <fmt/format.h>

#include "passes/load/free_batch.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// A batch size that the model fixes and another that was asked for.
using BatchChange = std::pair<std::int64_t, std::int64_t>;

[[noreturn]] void contradiction(const Value& input, const std::string& found) {
  throw_input_error(fmt::format("input '{}' of shape {}, as the model says", input.name, input.shape.to_string()),
                    found, "give data of the model's shape, or export the model with that dimension dynamic");
}

Shape bound_shape(const Value& input, const InputShapes& shapes, std::optional<BatchChange>& change) {
  Shape shape = input.shape;
  if (auto it = shapes.by_name.find(input.name); it != shapes.by_name.end()) {
    const Shape& given = it->second;
    bool fits = !shape.is_ranked() || shape.rank() == given.rank();
    for (std::size_t axis = 0; fits && shape.is_ranked() && axis < shape.rank(); ++axis) {
      if (shape[axis] == Shape::kUnknown || shape[axis] == given[axis]) continue;
      const BatchChange wanted{shape[axis], given[axis]};
      fits = axis == 0 && wanted.first > 0 && wanted.second > 0 && change.value_or(wanted) == wanted;
      change = wanted;
    }
    if (!fits) contradiction(input, given.to_string());
    return given;
  }
  if (shape.is_ranked() && shape.rank() > 0 && shape[0] == Shape::kUnknown && shapes.batch != Shape::kUnknown)
    shape[0] = shapes.batch;
  if (!shape.is_static())
    throw_input_error(fmt::format("every extent of input '{}'", input.name), shape.to_string(),
                      "give the shape of this input");
  return shape;
}

// Makes the model compute for another batch than it was exported for.
void change_batch(Graph& graph, const Graph& source, const BatchChange& change, BatchSearches& searches) {
  const auto [from, to] = change;
  const Value& input = source[source.inputs[0]];
  std::vector<ValueId> batched;
  for (const ValueId in : graph.inputs) {
    const Shape &was = source[in].shape, &is = graph[in].shape;
    const bool had_any = !was.is_ranked() || was.rank() == 0 || was[0] == from || was[0] == Shape::kUnknown;
    if (had_any && is.rank() > 0 && is[0] == to) batched.push_back(in);
  }
  const BatchShapes& shapes = searches.find(graph, batched, from);
  try {
    fold_constants(rewrite_batch(shapes, from, to)).apply(graph);
  } catch (const Error& error) {
    contradiction(input, fmt::format("{} rows: {}", to, error.found()));
  }
  if (const std::string output = output_without_batch(source, graph, from, to); !output.empty())
    contradiction(input, fmt::format("{} rows: {}", to, output));
  // It fits this batch by chance.
  if (!shapes.obstacle.empty())
    contradiction(input, fmt::format("{} rows, which fit by chance; with others: {}", to, shapes.obstacle));
}

}  // namespace

Pass bind_shapes(InputShapes shapes) { return bind_shapes(std::move(shapes), std::make_shared<BatchSearches>()); }

Pass bind_shapes(InputShapes shapes, std::shared_ptr<BatchSearches> searches) {
  return {"bind_shapes", [shapes = std::move(shapes), searches = std::move(searches)](Graph& graph) {
            for (const auto& [name, shape] : shapes.by_name) {
              const ValueId id = graph.find(name);
              if (id == kNoValue || !graph.is_input(id)) {
                std::string known;
                for (ValueId in : graph.inputs) known += (known.empty() ? "" : ", ") + graph[in].name;
                throw_input_error("the name of a model input (" + known + ")", "'" + name + "'",
                                  "check the input's name");
              }
            }
            std::optional<BatchChange> change;
            std::vector<Shape> bound;
            for (ValueId in : graph.inputs) bound.push_back(bound_shape(graph[in], shapes, change));
            std::optional<Graph> source;
            if (change) source = graph;
            for (std::size_t i = 0; i < bound.size(); ++i) graph[graph.inputs[i]].shape = bound[i];
            // What else follows from the inputs is inferred by fold_constants, which knows the values shapes are made
            // of.
            if (change) change_batch(graph, *source, *change, *searches);
          }};
}

}  // namespace halfstep
