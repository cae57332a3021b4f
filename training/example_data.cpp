#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "passes/load/free_batch.h"
#include "passes/step/class_axis.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/losses/loss_def.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/training/example_data.h>

namespace halfstep {
namespace {

constexpr std::uint32_t kSeed = 1;

/// The extents that are left open come from the shapes.
Graph bound(const Graph& model, const InputShapes& shapes) {
  return run_pipeline(model, {bind_shapes(shapes), fold_constants()});
}

/// How many rows the table has that the value chooses from, past what only moves its elements; 2 where there is none.
std::int64_t choices(const Graph& graph, ValueId id) {
  constexpr std::int64_t kDefault = 2;
  std::int64_t fewest = kDefault;
  bool found = false;
  for (const Use& use : graph.users(id)) {
    const Node& node = graph.nodes[use.node];
    const OpTraits& traits = traits_of(node);
    std::int64_t rows = kDefault;
    if (use.input == 1 && traits.operands[0] == OperandRole::table) {
      const Shape& table = graph[node.inputs[0]].shape;
      rows = table[normalize_axis(node.attributes.get_int("axis", 0), table.rank())];
    } else if (use.input == 0 && keeps_elements(traits.movement) && node.output(0) != kNoValue) {
      rows = choices(graph, node.outputs[0]);
    } else {
      continue;
    }
    fewest = found ? std::min(fewest, rows) : rows;
    found = true;
  }
  return fewest;
}

Tensor drawn(DType dtype, const Shape& shape, std::int64_t choices, std::mt19937& random) {
  Tensor values(DType::f64, shape);
  const bool real = is_float(dtype);
  for (double& value : values.span<double>()) {
    const double share = static_cast<double>(random()) / static_cast<double>(std::mt19937::max());
    value = real ? 2 * share - 1
                 : std::min(std::floor(share * static_cast<double>(choices)), static_cast<double>(choices - 1));
  }
  return convert(values, dtype);
}

ValueId output_named(const Graph& graph, const std::string& name) {
  if (graph.outputs.empty()) throw_input_error("a model with an output", "none", "export the model again");
  if (name.empty()) return graph.outputs.front();
  for (const ValueId id : graph.outputs)
    if (graph[id].name == name) return id;
  throw_input_error("the name of an output of the model", fmt::format("'{}'", name), "check the name");
}

/// Whether an output has classes along an axis.
bool has_classes(const Graph& graph, ValueId output, std::size_t axis) {
  const Node* last = last_operator(graph, output);
  const Shape& shape = graph[output].shape;
  return shape.rank() >= 2 && shape[axis] > 1 && !(last && last->op == "Sigmoid");
}

}  // namespace

namespace {

std::string take_batch(const Graph& model, InputShapes& shapes, std::string (*obstacle_of)(const Graph&)) {
  std::int64_t fixed = Shape::kUnknown;
  try {
    fixed = fixed_batch(model);
  } catch (const Error&) {  // the first axis is another thing in some inputs
  }
  if (fixed == Shape::kUnknown || shapes.batch == Shape::kUnknown || fixed == shapes.batch) return {};
  if (const std::string obstacle = obstacle_of(model); !obstacle.empty()) {
    shapes.batch = fixed;
    return fmt::format("the model's batch size is fixed at {} ({})", fixed, obstacle);
  }
  for (const ValueId id : model.inputs) {
    const Shape& shape = model[id].shape;
    if (!shape.is_ranked() || shape.rank() == 0 || shape[0] != fixed) continue;
    std::vector<std::int64_t> dims(shape.begin(), shape.end());
    dims[0] = shapes.batch;
    shapes.by_name.emplace(model[id].name, Shape(std::move(dims)));
  }
  return {};
}

/// The rows over and over again.
Tensor repeated(const Tensor& rows, int times) {
  if (times == 1 || rows.shape().rank() == 0) return rows;
  std::vector<std::int64_t> dims = rows.shape().dims();
  dims[0] *= times;
  Tensor result(rows.dtype(), Shape(std::move(dims)));
  for (int i = 0; i < times; ++i)
    std::memcpy(static_cast<std::byte*>(result.raw()) + static_cast<std::size_t>(i) * rows.bytes(), rows.raw(),
                rows.bytes());
  return result;
}

}  // namespace

std::string take_batch(const Graph& model, InputShapes& shapes) { return take_batch(model, shapes, batch_obstacle); }

NamedTensors example_inputs(const Graph& model, const InputShapes& shapes) {
  const Graph graph = bound(model, shapes);
  std::mt19937 random(kSeed);
  NamedTensors inputs;
  for (const ValueId id : graph.inputs) {
    const Value& input = graph[id];
    if (input.dtype == DType::string)
      throw_input_error("inputs of numbers", fmt::format("'{}' of strings", input.name), "give data");
    inputs[input.name] = drawn(input.dtype, input.shape, choices(graph, id), random);
  }
  return inputs;
}

std::optional<Tensor> example_labels(const Graph& model, const InputShapes& shapes, const std::string& output,
                                     const std::optional<std::string>& loss) {
  const Graph graph = bound(model, shapes);
  const ValueId id = output_named(graph, output);
  const Shape& shape = graph[id].shape;
  const std::size_t axis = shape.rank() < 2 ? 0 : likely_class_axis(graph, id, {1, shape.rank() - 1});
  LossLabels labels = has_classes(graph, id, axis) ? LossLabels::classes : LossLabels::values;
  if (loss) labels = loss_named(*loss).labels;
  std::mt19937 random(kSeed);
  switch (labels) {
    case LossLabels::none:
      return {};
    case LossLabels::classes:
      if (shape.rank() >= 2) return drawn(DType::i64, without_axis(shape, axis), shape[axis], random);
      break;
    case LossLabels::shares:
    case LossLabels::binary: {
      Tensor values(DType::f32, shape);
      for (float& value : values.span<float>()) value = static_cast<float>(random() % 2);
      return values;
    }
    case LossLabels::values:
      break;
  }
  return drawn(DType::f32, shape, 2, random);
}

Dataset example_dataset(const Graph& source, InputShapes shapes, const TrainerOptions& options) {
  if (options.losses.size() != 1 || !options.batch_axes.empty())
    throw_input_error("data for a model with several losses or another batch axis than the first", "none",
                      "give it with --data");
  const Graph model = run_pipeline(source, {separate_merged_parameters(), undo_batch_expansion_for_training()});
  const bool is_fixed = !take_batch(model, shapes, batch_obstacle_in_training).empty();
  const int batches = is_fixed && options.ranks ? options.ranks->size() : 1;  // each rank takes one
  std::vector<Dataset::Input> inputs;
  for (const auto& [name, tensor] : example_inputs(model, shapes))
    inputs.push_back({name, DataArray::of(repeated(tensor, batches), name)});
  std::optional<DataArray> y;
  const OutputLoss& loss = options.losses.front();
  if (const auto labels = example_labels(model, shapes, loss.output, loss.loss))
    y = DataArray::of(repeated(*labels, batches), "labels");
  return Dataset(std::move(inputs), std::move(y));
}

}  // namespace halfstep
