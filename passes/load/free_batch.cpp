#include "passes/load/free_batch.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "passes/load/parameter_rules.h"
#include "passes/simplify/constant_values.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

using Dims = std::vector<std::int64_t>;

std::int64_t first_extent(const Value& value) {
  return value.shape.is_ranked() && value.shape.rank() > 0 ? value.shape[0] : Shape::kUnknown;
}

// Of the first input that knows it, or kUnknown.
std::int64_t first_fixed_batch(const Graph& graph) {
  for (ValueId in : graph.inputs)
    if (first_extent(graph[in]) != Shape::kUnknown) return first_extent(graph[in]);
  return Shape::kUnknown;
}

bool rows_are_equal(const Tensor& tensor) {
  const std::size_t rows = static_cast<std::size_t>(tensor.shape()[0]);
  const std::size_t size = tensor.bytes() / rows;
  const auto* bytes = static_cast<const std::byte*>(tensor.raw());
  for (std::size_t i = 1; i < rows; ++i)
    if (std::memcmp(bytes, bytes + i * size, size) != 0) return false;
  return true;
}

bool is_concatenation(const Node& node) { return node.is("Concat") && node.attributes.get_int("axis", 0) != 0; }

// Whether the node joins its operands row by row, so that the first extent of each is the batch.
bool works_on_rows(const Node& node, const Graph& typed, ValueId constant, std::int64_t batch) {
  if (traits_of(node).elementwise != Elementwise::broadcast && !is_concatenation(node)) return false;
  return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId in) {
    if (in == kNoValue || in == constant || typed[in].is_constant()) return false;
    const Shape& shape = typed[in].shape;
    return shape.is_ranked() && shape.rank() == typed[constant].shape.rank() &&
           (shape[0] == batch || shape[0] == Shape::kUnknown);
  });
}

// Lets a Concat read the row expanded over the batch.
void expand_row(Graph& graph, const Use& use, ValueId row, std::int64_t batch) {
  Dims dims(graph[row].shape.begin(), graph[row].shape.end());
  dims[0] = batch;
  const std::string name = graph[row].name + ".expanded";
  const ValueId shape = graph.add_constant(name + ".shape", Tensor::of(dims));
  const std::size_t node = graph.add_node("Expand", kOnnxDomain, {row, shape}, 1, {}, name);
  infer_node(graph, graph.nodes[node]);
  const ValueId expanded = graph.nodes[node].outputs[0];
  graph.edit(use.node)->inputs[use.input] = expanded;
}

Pass undo_expansion(bool trains) {
  return {"undo_batch_expansion", [trains](Graph& graph) {
            const std::int64_t batch = first_fixed_batch(graph);
            if (batch == Shape::kUnknown || batch < 1) return;
            Graph typed = graph;
            infer_graph(typed);
            std::optional<ValueMap<Verdict>> verdicts;
            const auto may_be_trained = [&](ValueId id) {
              if (!trains || !is_float(typed[id].dtype)) return false;
              if (!verdicts) verdicts = judge_constants(ModelFacts(typed, Exporter::unknown));
              return (*verdicts)[id].is_parameter;
            };
            for (const ValueId id : typed.values.ids()) {
              const Value& value = typed[id];
              if (!value.is_constant() || value.dtype == DType::string || value.shape.rank() < 2 ||
                  value.shape[0] != batch || value.constant.bytes() == 0 || !rows_are_equal(value.constant) ||
                  graph.is_output(id))
                continue;
              const std::span<const Use> users = typed.users(id);
              if (users.empty() || !std::all_of(users.begin(), users.end(), [&](const Use& use) {
                    return works_on_rows(typed.nodes[use.node], typed, id, batch);
                  }))
                continue;
              const bool needs_rows = std::any_of(
                  users.begin(), users.end(), [&](const Use& use) { return is_concatenation(typed.nodes[use.node]); });
              if (!needs_rows && all_equal(value.constant) && may_be_trained(id)) continue;
              Dims dims(value.shape.begin(), value.shape.end());
              dims[0] = 1;
              Tensor row(value.dtype, Shape(dims));
              std::memcpy(row.raw(), value.constant.raw(), row.bytes());
              graph[id].constant = row;
              graph[id].shape = row.shape();
              for (const Use& use : users)
                if (is_concatenation(graph.nodes[use.node])) expand_row(graph, use, id, batch);
            }
          }};
}

/// After the passes of `repair`.
std::string find_obstacle(const Graph& model, Pipeline repair, const std::shared_ptr<BatchSearches>& searches) {
  const std::int64_t batch = first_fixed_batch(model);
  if (batch == Shape::kUnknown) return {};
  const std::int64_t probe = probe_batch(model, batch);
  InputShapes shapes;
  for (ValueId in : model.inputs) {
    Shape shape = model[in].shape;
    if (!shape.is_ranked() || shape.rank() == 0 || (shape[0] != batch && shape[0] != Shape::kUnknown)) continue;
    Dims dims(shape.begin(), shape.end());
    dims[0] = probe;
    shapes.by_name[model[in].name] = Shape(dims);
  }
  repair.push_back(bind_shapes(std::move(shapes), searches));
  try {
    run_pipeline(model, repair);
  } catch (const Error& error) {
    return "tried with " + error.found();
  }
  return {};
}

}  // namespace

Pass undo_batch_expansion() { return undo_expansion(/*trains=*/false); }
Pass undo_batch_expansion_for_training() { return undo_expansion(/*trains=*/true); }

std::string batch_obstacle(const Graph& model) {
  return find_obstacle(model, {separate_merged_parameters(), undo_batch_expansion()},
                       std::make_shared<BatchSearches>());
}
std::string batch_obstacle_in_training(const Graph& model) {
  return find_obstacle(model, {separate_merged_parameters(), undo_batch_expansion_for_training()},
                       std::make_shared<BatchSearches>());
}
std::string batch_obstacle_of_repaired(const Graph& model, const std::shared_ptr<BatchSearches>& searches) {
  return find_obstacle(model, {}, searches);
}

std::int64_t fixed_batch(const Graph& model) {
  const std::int64_t batch = first_fixed_batch(model);
  std::string found;
  bool agree = true;
  for (ValueId in : model.inputs) {
    const std::int64_t extent = first_extent(model[in]);
    if (extent == Shape::kUnknown) continue;
    agree = agree && extent == batch;
    found += fmt::format("{}'{}' has {}", found.empty() ? "" : ", ", model[in].name, extent);
  }
  if (!agree)
    throw_input_error("inputs of one batch size, their first extent", found,
                      "export the model with a dynamic batch dimension, or with the same rows in every input");
  if (batch == 0) throw_input_error("inputs with rows", found, "export the model with a dynamic batch dimension");
  return batch;
}

}  // namespace halfstep
