#include "training/task.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "data/row_shape.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

RowType row_of(const Value& input) {
  if (!input.shape.is_ranked()) return {input.dtype, Shape::unranked()};
  return {input.dtype,
          Shape(std::vector<std::int64_t>(input.shape.begin() + (input.shape.rank() ? 1 : 0), input.shape.end()))};
}

/// The inputs of a model that a data set has rows for, and the one that takes its labels; "" where none does.
struct Roles {
  std::vector<std::string> x;
  std::string y;
};

/// A model that computes its loss may take the labels as an input, mostly its last.
Roles roles_of(const Graph& model, const Dataset& data, std::optional<LossKind> loss) {
  if (model.inputs.empty()) throw_input_error("a model with an input", "none", "export the model again");
  Roles roles;
  for (ValueId in : model.inputs) roles.x.push_back(model[in].name);
  const auto is_input = [&](const std::string& name) {
    return std::find(roles.x.begin(), roles.x.end(), name) != roles.x.end();
  };
  const auto taken = std::count_if(data.x.begin(), data.x.end(), [&](const Dataset::Input& input) {
    return input.name.empty() || !input.optional || is_input(input.name);
  });
  if (loss != LossKind::output || !data.y || taken >= static_cast<std::ptrdiff_t>(roles.x.size())) return roles;
  const auto is_named = [&](const std::string& name) {
    return std::any_of(data.x.begin(), data.x.end(), [&](const Dataset::Input& input) { return input.name == name; });
  };
  auto labels = std::find(roles.x.rbegin(), roles.x.rend(), data.y_name);
  if (labels == roles.x.rend()) labels = std::find_if_not(roles.x.rbegin(), roles.x.rend(), is_named);
  roles.y = *labels;
  roles.x.erase(std::next(labels).base());
  return roles;
}

void require_labels(const Dataset& data, const LossKind* loss) {
  if (data.y) return;
  throw_input_error(loss ? fmt::format("labels for the loss {}", name_of(*loss)) : "labels to compute a loss from",
                    "none beside " + data.x.front().rows.name(),
                    "give them last, as X.npy,Y.npy, or as y in an NPZ file; --loss output if the model computes its "
                    "loss from its inputs alone");
}

void require_full_batch(const Task& task, const Dataset& data) {
  if (task.drop_last && data.rows() < task.batch)
    throw_input_error(fmt::format("at least {} rows: the model's batch size is fixed", task.batch),
                      std::to_string(data.rows()), "export the model with a dynamic batch dimension");
}

void choose_batch(Task& task, const Graph& model, const Dataset& data, std::int64_t wanted) {
  const std::int64_t fixed = fixed_batch(model);
  task.batch = std::min(wanted, data.rows());
  if (fixed == Shape::kUnknown) return;
  const std::string obstacle = batch_obstacle(model);
  if (obstacle.empty()) return;
  const char* rest = data.rows() % fixed != 0 ? ", and the last rows that do not fill one are left out" : "";
  task.notices.push_back(
      fmt::format("the model's batch size is fixed at {} ({}): batches have that size{}", fixed, obstacle, rest));
  task.batch = fixed;
  task.drop_last = true;
  require_full_batch(task, data);
}

// The shapes of the inputs for a batch of `rows`.
std::map<std::string, Shape> input_shapes(const Task& task, std::int64_t rows) {
  std::map<std::string, Shape> shapes;
  for (std::size_t i = 0; i < task.x.size(); ++i) shapes[task.x_names[i]] = with_rows(rows, task.x[i].to.shape);
  return shapes;
}

void require_batch_first(const Value& output, std::int64_t batch, const std::string& model_name) {
  const Shape& shape = output.shape;
  if (shape.rank() > 0 && shape[0] == batch) return;
  const auto at = std::find(shape.begin(), shape.end(), batch);
  throw_input_error(fmt::format("an output with a row for each of the batch's {}, along its first axis", batch),
                    fmt::format("'{}' of shape {}", model_name, shape.to_string()),
                    at == shape.end() ? "choose another output with --loss-output, or --loss output if it is the loss"
                                      : fmt::format("--batch-axis {}={} if that is the batch's axis", model_name,
                                                    at - shape.begin()));
}

// The output that the model's own loss is: the one that was asked for, else the first that is one number, else the
// first.
ValueId choose_own_output(Task& task, const Graph& model) {
  const auto is_number = [&](ValueId id) {
    const Shape& shape = model[id].shape;
    return is_float(model[id].dtype) && shape.is_ranked() &&
           (shape.rank() == 0 || (shape.is_static() && shape.count() == 1));
  };
  const auto number = std::find_if(model.outputs.begin(), model.outputs.end(), is_number);
  const ValueId chosen = number == model.outputs.end() ? model.outputs[0] : *number;
  const Value& output = model[chosen];
  if (number == model.outputs.end())
    task.notices.push_back(fmt::format("the loss is the mean of the output '{}' {}: --loss-output", output.name,
                                       output.shape.to_string()));
  else if (model.outputs.size() > 1)
    task.notices.push_back(fmt::format("the loss is the output '{}': --loss-output", output.name));
  return chosen;
}

void choose_own_loss(Task& task, const Graph& model, const Dataset& data, const TrainerOptions& options) {
  task.loss.kind = LossKind::output;
  task.step.loss.output =
      options.loss_output.empty() ? model[choose_own_output(task, model)].name : options.loss_output;
  if (options.metrics && !options.metrics->empty())
    throw_input_error("a loss that is computed from an output and labels, for metrics",
                      fmt::format("--loss output with the metric {}", options.metrics->front().name()),
                      "leave --metrics out, or choose a loss with --loss");
  if (task.y_name.empty()) {
    if (data.y)
      task.notices.push_back(
          fmt::format("{} is not used: with --loss output the model's inputs are {} alone", data.y->name(),
                      task.x_names.size() == 1 ? "'" + task.x_names[0] + "'" : "those that have rows"));
    return;
  }
  const ValueId labels = model.find(task.y_name);
  task.y = fit_target(*data.y, row_of(model[labels]));
  task.loss.label = task.y->to;
}

void choose_labels(Task& task, const Graph& model, const Dataset& data, const TrainerOptions& options) {
  if (model.outputs.empty())
    throw_input_error("a model with an output to compute the loss from", "none", "export the model again");
  if (options.loss == LossKind::output) return choose_own_loss(task, model, data, options);
  require_labels(data, options.loss ? &*options.loss : nullptr);
  const Graph bound = run_pipeline(model, {bind_shapes({.by_name = input_shapes(task, task.batch)}), fold_constants()});
  const ValueId output = options.loss_output.empty() ? bound.outputs.at(0) : bound.find(options.loss_output);
  if (output == kNoValue || !bound[output].shape.is_static())
    throw_input_error("a model output of static shape to compute the loss from",
                      options.loss_output.empty() ? "none" : "'" + options.loss_output + "'",
                      "name an output of the model");
  require_batch_first(bound[output], task.batch,
                      options.loss_output.empty() ? model[model.outputs[0]].name : options.loss_output);
  task.loss = choose_loss(bound, output, data, options);
  task.y = fit_target(*data.y, task.loss.label, task.loss.target);
  task.notices.insert(task.notices.end(), task.loss.notices.begin(), task.loss.notices.end());
}

// A recurrent layer that takes an input as it is says where its batch is.
void note_recurrent_inputs(Task& task, const Graph& model) {
  for (const Node& node : model.nodes) {
    if (!traits_of(node).is_recurrent()) continue;
    if (node.attributes.get_int("layout", 0) == 0 && node.input(0) != kNoValue && model.is_input(node.inputs[0]))
      task.notices.push_back(
          fmt::format("rows are taken along the first axis of '{0}', which is time for the {1} that "
                      "reads it: --batch-axis {0}=1 if they are the batch's",
                      model[node.inputs[0]].name, node.op));
  }
}

}  // namespace

StepOptions Task::step_options(std::int64_t rows) const {
  StepOptions options = step;
  options.loss.label_shape = with_rows(rows, loss.label.shape);
  options.shapes.by_name = input_shapes(*this, rows);
  if (!y_name.empty()) options.shapes.by_name[y_name] = options.loss.label_shape;
  return options;
}

std::vector<RowTransform> fit_inputs(const Dataset& data, const std::vector<RowType>& wanted,
                                     const InputOptions& options) {
  const bool any_float = std::any_of(wanted.begin(), wanted.end(), [](const RowType& t) { return is_float(t.dtype); });
  std::vector<RowTransform> transforms;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    transforms.push_back(
        fit_input(data.x[i].rows, wanted[i], any_float && !is_float(wanted[i].dtype) ? InputOptions{} : options));
  return transforms;
}

Task make_task(const Graph& model, const Dataset& unordered, const TrainerOptions& options,
               const Capabilities& capabilities) {
  check(options);
  Task task;
  task.precision = resolve(options.precision.value_or(Precision::automatic), capabilities);
  const Roles roles = roles_of(model, unordered, options.loss);
  const Dataset data = in_order_of(roles.x, unordered);
  task.x_names = roles.x;
  task.y_name = roles.y;
  std::vector<RowType> rows;
  for (const std::string& name : task.x_names) rows.push_back(row_of(model[model.find(name)]));
  task.x = fit_inputs(data, rows, options.input);
  choose_batch(task, model, data, options.batch_size);
  note_recurrent_inputs(task, model);
  choose_labels(task, model, data, options);

  task.step.mode = options.mode;
  task.step.mode.seed = static_cast<std::int64_t>(options.seed);
  task.step.precision = task.precision;
  task.step.optimizer = options.optimizer;
  task.step.optimizer.output_gradient_norms = options.log_grad_norms;
  LossScaleOptions& scale = task.step.optimizer.loss_scale;
  scale.enabled = options.loss_scale ? *options.loss_scale > 0 : task.precision == DType::f16;
  if (options.loss_scale && *options.loss_scale > 0)
    scale.initial = *options.loss_scale;
  else  // the usual one, within bounds that were asked for
    scale.initial = std::clamp(scale.initial, scale.lowest(), std::max(scale.lowest(), scale.highest()));
  check(task.step.optimizer);
  for (const OptimizerNumber& number : optimizer_numbers())
    if (!scale.enabled && number.name.starts_with("loss-scale") && number.get(options.optimizer) != number.get({}))
      task.notices.push_back(
          fmt::format("--{} has no effect: precision {} trains without a loss scale (--loss-scale "
                      "{} turns it on)",
                      number.name, precision_name(task.precision), LossScaleOptions{}.initial));
  task.step.loss = {.kind = task.loss.kind,
                    .output = task.step.loss.output.empty() ? options.loss_output : task.step.loss.output,
                    .label_dtype = task.loss.label.dtype,
                    .label_shape = {}};
  task.step.loss.labels_input = task.y_name;
  task.step.loss.class_axis = task.loss.reading.class_axis;
  task.step.loss.ignore_label = task.loss.reading.ignored;
  task.step.loss.numbers = options.loss_numbers;
  return task;
}

TaskData fit_data(const Task& task, const Dataset& unordered, const InputOptions& input) {
  TaskData result{in_order_of(task.x_names, unordered), {}, {}};
  Dataset& data = result.data;
  require_full_batch(task, data);
  std::vector<RowType> rows;
  for (const RowTransform& x : task.x) rows.push_back(x.to);
  result.x = fit_inputs(data, rows, input);
  if (task.y) {
    require_labels(data, &task.loss.kind);
    result.y = fit_target(*data.y, task.y->to, task.loss.target);
  } else {
    data.y.reset();
  }
  return result;
}

}  // namespace halfstep
