// What a run's loss is computed from, and its metrics.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "training/task_parts.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

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
  TaskTerm& term = task.terms[0];
  term.loss.row = &loss_named(kOwnLoss);
  const OutputLoss& loss = options.losses[0];
  if (!loss.sample_weights.empty())
    throw_input_error("a loss that is computed from labels, for sample weights", fmt::format("--loss {}", kOwnLoss),
                      "apply the weights in the model, or omit them");
  if (!loss.class_weights.empty() || loss.class_axis)
    throw_input_error(fmt::format("a loss over classes, for {}", loss.class_axis ? "a class axis" : "class weights"),
                      fmt::format("--loss {}", kOwnLoss), "omit them");
  task.step.loss.terms[0].output = loss.output.empty() ? model[choose_own_output(task, model)].name : loss.output;
  task.step.loss.terms[0].weight = loss.weight;
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
  term.rows = fit_target(*data.y, row_of(model[labels]));
  term.loss.label = term.rows->to;
}

constexpr const char* kFunctionLabels = "labels";

void choose_function(Task& task, const Graph& model, const Dataset& data, const TrainerOptions& options) {
  static const LossDef row{
      .name = "function", .meaning = "a formula of the caller's", .source = "the caller", .labels = LossLabels::values};
  if (options.losses != std::vector<OutputLoss>(1))
    throw_input_error("one loss", fmt::format("a function and {}", options.losses[0].loss.value_or("others")),
                      "leave one of them out");
  if (options.metrics && !options.metrics->empty())
    throw_input_error("a loss that is computed from an output and labels, for metrics",
                      fmt::format("a function with the metric {}", options.metrics->front().name()),
                      "leave --metrics out, or choose a loss with --loss");
  if (model.find(kFunctionLabels) != kNoValue && model.is_input(model.find(kFunctionLabels)))
    throw_input_error("labels that are no input of the model", fmt::format("an input '{}'", kFunctionLabels),
                      "compute the loss in the model: --loss output");
  LossChoice& loss = task.terms[0].loss;
  loss.row = &row;
  task.step.loss = {.terms = {}, .function = options.loss_function};
  task.step.loss.function.labels.clear();
  if (!data.y) return;
  const RowType given = data.y->row_type();
  loss.label = {is_float(given.dtype) ? DType::f32 : DType::i64, given.shape};
  task.terms[0].rows = fit_target(*data.y, loss.label);
  task.step.loss.function.labels = {{kFunctionLabels, loss.label.dtype, {}}};
}

// What is asked for of a loss, and of its metrics those of its output.
LossRequest request_for(const OutputLoss& loss, const TrainerOptions& options) {
  LossRequest request{.loss = loss.loss,
                      .class_axis = loss.class_axis,
                      .ignore_label = options.ignore_label,
                      .metrics = options.metrics};
  if (request.metrics && options.losses.size() > 1)
    std::erase_if(*request.metrics, [&](const Metric& metric) { return metric.of != loss.output; });
  return request;
}

void add_sample_weights(TaskTerm& term, LossTerm& step, const Dataset& data) {
  const LabelReading& reading = term.loss.reading;
  const DataArray& rows = std::ranges::find(data.labels, term.sample_weights, &Dataset::Input::name)->rows;
  const Shape labels = reading.form == LabelReading::Form::one_hot ? Shape{} : term.loss.label.shape;
  term.weight_rows = fit_weights(rows, labels);
  step.sample_weights = "sample_weights" + step.labels.substr(std::string_view("labels").size());
}

void add_term(Task& task, const Graph& bound, const Graph& model, const Dataset& data, const OutputLoss& loss,
              const TrainerOptions& options) {
  const bool several = options.losses.size() > 1;
  TaskTerm term{.loss = {},
                .output = loss.output,
                .labels = loss.labels,
                .rows = {},
                .sample_weights = loss.sample_weights,
                .weight_rows = {}};
  Dataset own = data;
  own.y = label_rows(data, loss.labels, loss.loss.value_or(""));
  const ValueId output = loss.output.empty() ? bound.outputs.at(0) : bound.find(loss.output);
  if (output == kNoValue || !bound.is_output(output) || !bound[output].shape.is_static())
    throw_input_error("a model output of static shape to compute the loss from",
                      loss.output.empty() ? "none" : "'" + loss.output + "'", "name an output of the model");
  require_batch_first(bound[output], task.batch, loss.output.empty() ? model[model.outputs[0]].name : loss.output);
  term.loss = choose_loss(bound, output, own, request_for(loss, options));
  if (several)
    for (Metric& metric : term.loss.metrics) metric.of = loss.output;
  term.rows = fit_target(*own.y, term.loss.label, term.loss.target);
  task.notices.insert(task.notices.end(), term.loss.notices.begin(), term.loss.notices.end());

  LossTerm step{.loss = std::string(term.loss.row->name), .output = loss.output, .label_dtype = term.loss.label.dtype};
  step.class_axis = term.loss.reading.class_axis;
  step.ignore_label = term.loss.reading.ignored;
  step.numbers = loss.numbers;
  step.class_weights = loss.class_weights;
  step.weight = loss.weight;
  if (several) step.labels += "." + loss.output;
  if (!term.sample_weights.empty()) add_sample_weights(term, step, data);
  task.step.loss.terms.push_back(std::move(step));
  task.terms.push_back(std::move(term));
}

// Metrics of a single loss may name its output.
void check_metric_outputs(const TrainerOptions& options, const std::vector<std::string>& of_losses) {
  if (!options.metrics) return;
  const bool several = options.losses.size() > 1;
  for (const Metric& metric : *options.metrics)
    if (!(metric.of.empty() && !several) && std::ranges::find(of_losses, metric.of) == of_losses.end())
      throw_input_error(fmt::format("metrics of outputs that have a loss{}",
                                    several ? fmt::format(", as {}.{}", of_losses.front(), metric.name()) : ""),
                        fmt::format("'{}'", metric.name()), "name the output");
}

void check_losses(const Graph& model, const TrainerOptions& options) {
  std::vector<std::string> outputs, seen;
  for (const ValueId id : model.outputs) outputs.push_back(model[id].name);
  for (const OutputLoss& loss : options.losses) {
    if (options.losses.size() > 1) {
      if (std::ranges::find(outputs, loss.output) == outputs.end())
        throw_input_error(fmt::format("losses by outputs of the model: {}", fmt::join(outputs, ", ")),
                          fmt::format("'{}'", loss.output), "check the name");
      if (loss.loss == kOwnLoss)
        throw_input_error("only losses that are computed from labels, if there are several", std::string(kOwnLoss), "");
      if (std::ranges::find(seen, loss.output) != seen.end())
        throw_input_error("one loss for each output", fmt::format("two for '{}'", loss.output), "leave one out");
    }
    if (!(loss.weight >= 0 && loss.weight <= 1e30))
      throw_input_error(fmt::format("a weight of at least 0 for the loss of '{}'", loss.output),
                        fmt::format("{}", loss.weight), "correct the weight");
    seen.push_back(loss.output.empty() ? outputs[0] : loss.output);
  }
  check_metric_outputs(options, seen);
}

}  // namespace

void choose_losses(Task& task, const PreparedModel& prepared, const Dataset& data, const TrainerOptions& options) {
  const Graph& model = prepared.graph();
  if (model.outputs.empty())
    throw_input_error("a model with an output to compute the loss from", "none", "export the model again");
  if (options.loss_function.write) return choose_function(task, model, data, options);
  check_losses(model, options);
  if (options.losses.size() == 1) {
    const OutputLoss& loss = options.losses[0];
    if (loss.loss == kOwnLoss) return choose_own_loss(task, model, data, options);
    if (loss.labels.empty()) require_labels(data, loss.loss.value_or(""));
  }
  const Graph bound = prepared.bound({.by_name = input_shapes(task, task.batch)});
  task.terms.clear();
  task.step.loss.terms.clear();
  for (const OutputLoss& loss : options.losses) add_term(task, bound, model, data, loss, options);
}

}  // namespace halfstep
