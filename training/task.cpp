#include "training/task.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "data/row_shape.h"
#include "training/ranks.h"
#include "training/start.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/training/metric_def.h>

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
Roles roles_of(const Graph& model, const Dataset& data, const std::optional<std::string>& loss) {
  if (model.inputs.empty()) throw_input_error("a model with an input", "none", "export the model again");
  Roles roles;
  for (ValueId in : model.inputs) roles.x.push_back(model[in].name);
  const auto is_input = [&](const std::string& name) {
    return std::find(roles.x.begin(), roles.x.end(), name) != roles.x.end();
  };
  const auto taken = std::count_if(data.x.begin(), data.x.end(), [&](const Dataset::Input& input) {
    return input.name.empty() || !input.optional || is_input(input.name);
  });
  if (loss != kOwnLoss || !data.y || taken >= static_cast<std::ptrdiff_t>(roles.x.size())) return roles;
  const auto is_named = [&](const std::string& name) {
    return std::any_of(data.x.begin(), data.x.end(), [&](const Dataset::Input& input) { return input.name == name; });
  };
  auto labels = std::find(roles.x.rbegin(), roles.x.rend(), data.y_name);
  if (labels == roles.x.rend()) labels = std::find_if_not(roles.x.rbegin(), roles.x.rend(), is_named);
  roles.y = *labels;
  roles.x.erase(std::next(labels).base());
  return roles;
}

void require_labels(const Dataset& data, std::string_view loss) {
  if (data.y) return;
  throw_input_error(!loss.empty() ? fmt::format("labels for the loss {}", loss) : "labels to compute a loss from",
                    "none beside " + data.x.front().rows.name(),
                    "give them last, as X.npy,Y.npy, or as y in an NPZ file; --loss output if the model computes its "
                    "loss from its inputs alone");
}

void require_full_batch(const Task& task, const Dataset& data, std::int64_t rows) {
  if (task.drop_last && data.rows() < rows)
    throw_input_error(fmt::format("at least {} rows: the model's batch size is fixed", rows),
                      std::to_string(data.rows()), "export the model with a dynamic batch dimension");
}

void choose_batch(Task& task, const Graph& model, const Dataset& data, std::int64_t wanted) {
  const std::int64_t fixed = fixed_batch(model);
  task.all_rows = std::min(wanted, data.rows());
  task.batch = task.share.size(task.all_rows);
  const std::int64_t ranks = task.share.ranks;
  const std::string obstacle = fixed == Shape::kUnknown ? "" : batch_obstacle(model);
  if (obstacle.empty()) {
    if (task.all_rows < ranks)
      throw_input_error(fmt::format("a batch of at least {} rows, one for each rank", ranks),
                        fmt::format("{}", task.all_rows), "use a larger --batch, or fewer ranks");
    return;
  }
  const char* rest = data.rows() % (fixed * ranks) != 0 ? ", and the last rows that do not fill one are left out" : "";
  task.notices.push_back(fmt::format("the model's batch size is fixed at {} ({}): batches have that size{}{}", fixed,
                                     obstacle, ranks == 1 ? "" : " on each rank", rest));
  task.batch = fixed;
  task.all_rows = fixed * ranks;
  task.drop_last = true;
  require_full_batch(task, data, task.all_rows);
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

bool has_rows(const Dataset& data, const std::string& name) {
  return std::ranges::find(data.labels, name, &Dataset::Input::name) != data.labels.end() ||
         std::ranges::find(data.x, name, &Dataset::Input::name) != data.x.end();
}

DataArray even_weights(const std::string& name, const RowType& type, std::int64_t rows) {
  const auto in_row = static_cast<std::size_t>(type.shape.count());
  return DataArray::made(name, type, rows, [=](std::span<const std::int64_t> wanted, const RowDraw&, void* out) {
    std::fill_n(static_cast<float*>(out), wanted.size() * in_row, 1.0f);
  });
}

const DataArray& label_rows(const Dataset& data, const std::string& name, std::string_view loss) {
  if (name.empty()) {
    require_labels(data, loss);
    return *data.y;
  }
  return std::ranges::find(data.labels, name, &Dataset::Input::name)->rows;
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

void choose_losses(Task& task, const Graph& model, const Dataset& data, const TrainerOptions& options) {
  if (model.outputs.empty())
    throw_input_error("a model with an output to compute the loss from", "none", "export the model again");
  if (options.loss_function.write) return choose_function(task, model, data, options);
  check_losses(model, options);
  if (options.losses.size() == 1) {
    const OutputLoss& loss = options.losses[0];
    if (loss.loss == kOwnLoss) return choose_own_loss(task, model, data, options);
    if (loss.labels.empty()) require_labels(data, loss.loss.value_or(""));
  }
  const Graph bound = run_pipeline(model, {bind_shapes({.by_name = input_shapes(task, task.batch)}), fold_constants()});
  task.terms.clear();
  task.step.loss.terms.clear();
  for (const OutputLoss& loss : options.losses) add_term(task, bound, model, data, loss, options);
}

// A recurrent layer that takes an input as it is says where its batch is.
void note_recurrent_inputs(Task& task, const Graph& model) {
  for (const Node& node : model.nodes) {
    if (!traits_of(node).is_recurrent()) continue;
    if (node.attributes.get_int("layout", 0) == 0 && node.input(0) != kNoValue && model.is_input(node.inputs[0]))
      task.notices.push_back(
          fmt::format("rows are taken along the first axis of '{0}', which is the time axis of the {1} that reads it: "
                      "--batch-axis {0}=1 if axis 1 is the batch",
                      model[node.inputs[0]].name, node.op));
  }
}

}  // namespace

StepOptions Task::step_options(std::int64_t rows) const {
  StepOptions options = step;
  for (std::size_t i = 0; i < options.loss.terms.size(); ++i) {
    options.loss.terms[i].label_shape = with_rows(rows, terms[i].loss.label.shape);
    if (terms[i].weight_rows)
      options.loss.terms[i].sample_weight_shape = with_rows(rows, terms[i].weight_rows->to.shape);
  }
  const Shape labels = with_rows(rows, loss().label.shape);
  for (LabelInput& input : options.loss.function.labels) input.shape = labels;
  options.shapes.by_name = input_shapes(*this, rows);
  if (!y_name.empty()) options.shapes.by_name[y_name] = labels;
  return options;
}

std::string Task::loss_text() const {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const double weight = i < step.loss.terms.size() ? step.loss.terms[i].weight : 1;  // a function has no terms
    texts.push_back(fmt::format("{}{}{}", terms.size() == 1 ? "" : terms[i].output + "=", terms[i].loss.row->name,
                                weight == 1 ? "" : fmt::format("*{}", weight)));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::vector<Metric> Task::metrics() const {
  std::vector<Metric> all;
  for (const TaskTerm& term : terms) all.insert(all.end(), term.loss.metrics.begin(), term.loss.metrics.end());
  return all;
}

Metrics Task::new_metrics() const {
  Metrics metrics(terms.front().loss.metrics, terms.front().loss.reading);
  for (std::size_t i = 1; i < terms.size(); ++i) metrics.add_term(terms[i].loss.metrics, terms[i].loss.reading);
  return metrics;
}

double Task::weight_of(const Batch& batch, std::size_t term) const {
  const std::vector<LossTerm>& written = step.loss.terms;
  if (batch.labels.empty() || written.empty() || written[0].loss == kOwnLoss) return static_cast<double>(batch.rows);
  const Tensor* samples = nullptr;
  if (terms[term].weight_rows) {
    std::size_t place = 0;
    for (std::size_t i = 0; i < term; ++i) place += terms[i].weight_rows.has_value();
    samples = &batch.sample_weights[place];
  }
  return weight_of_labels(terms[term].loss.reading, batch.labels[term], batch.rows, written[term].class_weights,
                          samples);
}

void Task::measure(Metrics& metrics, const StepProgram& program, const Batch& batch) const {
  std::size_t weights = 0;
  for (std::size_t i = 0; i < program.predictions() && i < batch.labels.size(); ++i) {
    const Tensor* samples = terms[i].weight_rows ? &batch.sample_weights[weights++] : nullptr;
    metrics.add(program.prediction(i), batch.labels[i], i, samples);
  }
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
  if (options.ranks) task.share = {options.ranks->rank(), options.ranks->size()};
  task.precision = resolve(options.precision.value_or(Precision::automatic), capabilities);
  std::vector<std::string> labels;
  for (const OutputLoss& loss : options.losses)
    for (const std::string& name : {loss.labels, loss.sample_weights})
      if (!name.empty()) labels.push_back(name);
  for (const OutputLoss& loss : options.losses)
    if (!loss.sample_weights.empty() && !has_rows(unordered, loss.sample_weights))
      throw_input_error(fmt::format("sample weights '{}' in the data", loss.sample_weights), "no rows of that name",
                        "give them as NAME=FILE, or as an array of that name in an NPZ file");
  const Dataset named = with_labels(unordered, labels);
  if (options.losses.empty()) throw_input_error("a loss", "an empty list of losses", "{{}} chooses one by the labels");
  const Roles roles = roles_of(model, named, options.losses.size() == 1 ? options.losses[0].loss : std::nullopt);
  const Dataset data = in_order_of(roles.x, named);
  task.x_names = roles.x;
  task.y_name = roles.y;
  std::vector<RowType> rows;
  for (const std::string& name : task.x_names) rows.push_back(row_of(model[model.find(name)]));
  task.x = fit_inputs(data, rows, options.input);
  choose_batch(task, model, data, options.batch_size);
  note_recurrent_inputs(task, model);
  choose_losses(task, model, data, options);

  task.step.mode = options.mode;
  task.step.mode.seed = seed_of(options.seed, task.share.rank);
  task.step.ranks = {.ranks = task.share.ranks,
                     .rank = task.share.rank,
                     .bucket_bytes = options.bucket_bytes,
                     .buckets = {},
                     .sync_batchnorm = options.sync_batchnorm,
                     .sharded_optimizer = options.sharded_optimizer,
                     .gradient_dtype = options.gradient_dtype};
  task.step.precision = task.precision;
  task.step.optimizer = options.optimizer;
  task.step.optimizer.output_gradient_norms = options.log_grad_norms;
  LossScaleOptions& scale = task.step.optimizer.loss_scale;
  scale = starting(scale, options.loss_scale, task.precision);
  check(task.step.optimizer);
  if (options.gradient_dtype == DType::f16 && !scale.enabled)
    throw_input_error("a loss scale, for gradients in fp16", "none, which would skip every update beyond 65504",
                      "--gradient-precision bf16 needs none; --loss-scale 65536 gives one");
  for (const OptimizerNumber& number : optimizer_numbers())
    if (!scale.enabled && number.name.starts_with("loss-scale") && number.get(options.optimizer) != number.get({}))
      task.notices.push_back(
          fmt::format("--{} has no effect: precision {} trains without a loss scale (--loss-scale "
                      "{} turns it on)",
                      number.name, precision_name(task.precision), LossScaleOptions{}.initial));
  if (task.loss().row->name == kOwnLoss) {
    LossTerm& term = task.step.loss.terms[0];
    term.loss = kOwnLoss;
    term.labels_input = task.y_name;
  }
  return task;
}

TaskData fit_data(const Task& task, const Dataset& unordered, const InputOptions& input) {
  std::vector<std::string> labels, missing;
  for (const TaskTerm& term : task.terms) {
    if (!term.labels.empty()) labels.push_back(term.labels);
    if (term.sample_weights.empty()) continue;
    (has_rows(unordered, term.sample_weights) ? labels : missing).push_back(term.sample_weights);
  }
  TaskData result{in_order_of(task.x_names, with_labels(unordered, labels)), {}, std::move(missing)};
  Dataset& data = result.data;
  require_full_batch(task, data, task.batch);
  std::vector<RowType> rows;
  for (const RowTransform& x : task.x) rows.push_back(x.to);
  const std::vector<RowTransform> x = fit_inputs(data, rows, input);
  for (std::size_t i = 0; i < x.size(); ++i) result.columns.x.push_back({data.x[i].rows, x[i]});
  for (const TaskTerm& term : task.terms) {
    if (!term.rows) continue;
    const DataArray& rows_of_labels = label_rows(data, term.labels, term.loss.row->name);
    result.columns.labels.push_back({rows_of_labels, fit_target(rows_of_labels, term.rows->to, term.loss.target)});
    if (!term.weight_rows) continue;
    const std::string& name = term.sample_weights;
    const DataArray weights =
        has_rows(data, name) ? label_rows(data, name, "") : even_weights(name, term.weight_rows->to, data.rows());
    result.columns.sample_weights.push_back({weights, fit_weights(weights, term.weight_rows->to.shape)});
    if (result.columns.sample_weights.back().transform.to != term.weight_rows->to)
      throw_input_error(fmt::format("rows of '{}' of {}", name, term.weight_rows->to.shape.to_string()),
                        weights.row_type().to_string(), "give them as in the training data");
  }
  if (result.columns.labels.empty()) data.y.reset();
  return result;
}

}  // namespace halfstep
