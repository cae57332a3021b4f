#include "training/task.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "data/row_shape.h"
#include "training/label_summary.h"
#include "training/task_parts.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

DataArray even_weights(const std::string& name, const RowType& type, std::int64_t rows) {
  const auto in_row = static_cast<std::size_t>(type.shape.count());
  return DataArray::made(name, type, rows, [=](std::span<const std::int64_t> wanted, const RowDraw&, void* out) {
    std::fill_n(static_cast<float*>(out), wanted.size() * in_row, 1.0f);
  });
}

}  // namespace

RowType row_of(const Value& input) {
  if (!input.shape.is_ranked()) return {input.dtype, Shape::unranked()};
  return {input.dtype,
          Shape(std::vector<std::int64_t>(input.shape.begin() + (input.shape.rank() ? 1 : 0), input.shape.end()))};
}

std::map<std::string, Shape> input_shapes(const Task& task, std::int64_t rows) {
  std::map<std::string, Shape> shapes;
  for (std::size_t i = 0; i < task.x.size(); ++i) shapes[task.x_names[i]] = with_rows(rows, task.x[i].to.shape);
  return shapes;
}

bool has_rows(const Dataset& data, const std::string& name) {
  return std::ranges::find(data.labels, name, &Dataset::Input::name) != data.labels.end() ||
         std::ranges::find(data.x, name, &Dataset::Input::name) != data.x.end();
}

const DataArray& label_rows(const Dataset& data, const std::string& name, std::string_view loss) {
  if (name.empty()) {
    require_labels(data, loss);
    return *data.y;
  }
  return std::ranges::find(data.labels, name, &Dataset::Input::name)->rows;
}

void require_labels(const Dataset& data, std::string_view loss) {
  if (data.y) return;
  throw_input_error(!loss.empty() ? fmt::format("labels for the loss {}", loss) : "labels to compute a loss from",
                    fmt::format("none beside {}{}{}", data.x.front().rows.name(), data.label_hint.empty() ? "" : "; ",
                                data.label_hint),
                    "give them last, as X.npy,Y.npy, or as y in an NPZ file; --loss output if the model computes its "
                    "loss from its inputs alone");
}

void require_full_batch(const Task& task, const Dataset& data, std::int64_t rows) {
  if (task.drop_last && data.rows() < rows)
    throw_input_error(fmt::format("at least {} rows: the model's batch size is fixed", rows),
                      std::to_string(data.rows()), "export the model with a dynamic batch dimension");
}

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

const Tensor* Task::samples_of(const Batch& batch, std::size_t term) const {
  if (!terms[term].weight_rows) return nullptr;
  const auto before = std::span(terms).first(term);
  return &batch.sample_weights[static_cast<std::size_t>(
      std::ranges::count_if(before, [](const TaskTerm& one) { return one.weight_rows.has_value(); }))];
}

void Task::weigh(const Batch& batch, std::span<double> weights) const {
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = batch.is_spare ? 0 : weight_of(batch, i);
}

double Task::weight_of(const Batch& batch, std::size_t term) const {
  const std::vector<LossTerm>& written = step.loss.terms;
  if (batch.labels.empty() || written.empty() || written[0].loss == kOwnLoss) return static_cast<double>(batch.rows);
  return weight_of_labels(terms[term].loss.reading, batch.labels[term], batch.rows, written[term].class_weights,
                          samples_of(batch, term));
}

void Task::measure(Metrics& metrics, const StepProgram& program, const Batch& batch) const {
  for (std::size_t i = 0; i < program.predictions() && i < batch.labels.size(); ++i)
    metrics.add(program.prediction(i), batch.labels[i], i, samples_of(batch, i));
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

void check_ignored_labels(const Task& task, const TaskData& data, std::int64_t ignore_label) {
  std::size_t column = 0;
  for (const TaskTerm& term : task.terms) {
    if (!term.rows) continue;
    const FittedRows& labels = data.columns.labels[column++];
    const LossDef& loss = *term.loss.row;
    if (loss.labels != LossLabels::binary || !loss.ignores || term.loss.reading.ignored) continue;
    const LabelSummary values = summarize_labels(labels.rows, labels.rows.row_type().shape, {}, ignore_label);
    if (values.ignored > 0)
      throw_input_error(
          fmt::format("labels of 0 or 1 in {}: no label of the training data is ignored", labels.rows.name()),
          fmt::format("{} of {}", values.ignored, ignore_label),
          "leave these rows out, or have labels to ignore in the training data as well");
  }
}

}  // namespace halfstep
