#include "training/task.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "data/row_shape.h"
#include "graph/error.h"

namespace halfstep {
namespace {

RowType row_of(const Value& input) {
  if (!input.shape.is_ranked()) return {input.dtype, Shape::unranked()};
  return {input.dtype,
          Shape(std::vector<std::int64_t>(input.shape.begin() + (input.shape.rank() ? 1 : 0), input.shape.end()))};
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

void choose_labels(Task& task, const Graph& model, const Dataset& data, const TrainerOptions& options) {
  if (model.outputs.empty())
    throw_input_error("a model with an output to compute the loss from", "none", "export the model again");
  if (options.loss == LossKind::output) {
    const Value& labels = model[model.inputs.back()];
    task.y_name = labels.name;
    task.loss.kind = LossKind::output;
    task.y = fit_target(data.y, row_of(labels));
    task.loss.label = task.y.to;
    return;
  }
  const Graph bound = run_pipeline(model, {separate_merged_parameters(), undo_batch_expansion(),
                                           bind_shapes({.by_name = input_shapes(task, task.batch)}), fold_constants()});
  const ValueId output = options.loss_output.empty() ? bound.outputs.at(0) : bound.find(options.loss_output);
  if (output == kNoValue || !bound[output].shape.is_static())
    throw_input_error("a model output of static shape to compute the loss from",
                      options.loss_output.empty() ? "none" : "'" + options.loss_output + "'",
                      "name an output of the model");
  task.loss = choose_loss(bound, output, data.y, options.loss);
  if (task.loss.label.dtype == DType::f32 && task.loss.kind == LossKind::softmax_cross_entropy)
    task.loss.label.shape = row_of(bound[output]).shape;
  task.y = fit_target(data.y, task.loss.label, {.classes = task.loss.classes});
  if (options.metrics) task.loss.metrics = *options.metrics;
}

}  // namespace

void require_full_batch(const Task& task, const Dataset& data) {
  if (task.drop_last && data.rows() < task.batch)
    throw_input_error(fmt::format("at least {} rows: the model's batch size is fixed", task.batch),
                      std::to_string(data.rows()), "export the model with a dynamic batch dimension");
}

TrainingOptions Task::step_options(std::int64_t rows) const {
  TrainingOptions options = step;
  options.loss.label_shape = with_rows(rows, loss.label.shape);
  options.shapes.by_name = input_shapes(*this, rows);
  if (loss.kind == LossKind::output) options.shapes.by_name[y_name] = options.loss.label_shape;
  return options;
}

std::vector<std::string> data_inputs(const Graph& model, std::optional<LossKind> loss) {
  if (model.inputs.empty()) throw_input_error("a model with an input", "none", "export the model again");
  std::vector<std::string> names;
  for (ValueId in : model.inputs) names.push_back(model[in].name);
  if (loss == LossKind::output) names.pop_back();
  if (names.empty())
    throw_input_error("a model that computes its own loss takes the labels as its last input", "one input",
                      "choose a loss with --loss");
  return names;
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

Task make_task(const Graph& model, const Dataset& data, const TrainerOptions& options,
               const Capabilities& capabilities) {
  check(options);
  Task task;
  task.precision = resolve(options.precision, capabilities);
  std::vector<RowType> rows;
  for (const Dataset::Input& input : data.x) {
    task.x_names.push_back(input.name);
    rows.push_back(row_of(model[model.find(input.name)]));
  }
  task.x = fit_inputs(data, rows, options.input);
  choose_batch(task, model, data, options.batch_size);
  choose_labels(task, model, data, options);

  task.step.parameters = options.parameters;
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
  task.step.loss = {
      .kind = task.loss.kind, .output = options.loss_output, .label_dtype = task.loss.label.dtype, .label_shape = {}};
  return task;
}

}  // namespace halfstep
