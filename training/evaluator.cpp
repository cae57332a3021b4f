#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "data/batch_loader.h"
#include "training/loss_mean.h"
#include "training/over_ranks.h"
#include "training/step_program.h"
#include "training/task.h"
#include <halfstep/base/error.h>
#include <halfstep/training/evaluator.h>

namespace halfstep {

Evaluation evaluate(const Task& task, const InputOptions& input, const Dataset& unordered,
                    const std::function<StepProgram&(std::int64_t rows)>& program, Communicator* ranks) {
  auto [data, columns, missing] = fit_data(task, unordered, input);
  LoaderOptions loading;
  // A batch of fixed size is not shared out, so that the same rows are left out as on one rank: ranks take turns.
  const bool take_turns = ranks && task.drop_last;
  loading.batch_size = std::min(take_turns ? task.batch : task.all_rows, data.rows());
  if (ranks && !take_turns) loading.share = task.share;
  loading.shuffle = false;
  loading.drop_last = task.drop_last;
  loading.end_epoch = 1;
  BatchLoader loader(std::move(columns), loading);
  Metrics metrics = task.new_metrics();
  LossMean loss(task);
  Evaluation evaluation;
  std::int64_t turn = 0;
  while (const Batch* batch = loader.next()) {
    evaluation.rows += batch->all_rows;
    if (batch->is_spare || (take_turns && turn++ % ranks->size() != ranks->rank())) continue;
    StepProgram& step = program(batch->rows);
    step.run(*batch, 0, false);
    loss.add(step, *batch);
    if (metrics.size() > 0) task.measure(metrics, step, *batch);
  }
  if (Metrics* const all[]{&metrics}; ranks) merge(*ranks, loss.means(), all);
  if (loss.is_empty())
    throw_input_error("a label that is not ignored",
                      fmt::format("{}, where every label is ignored or has weight 0",
                                  data.y ? data.y->name() : data.labels.front().name),
                      "check the labels, --ignore-label and sample weights");
  evaluation.loss = loss.value();
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    if (const ClassTable* table = metrics.table(i))
      evaluation.tables.emplace_back(metrics.metric(i).name(), *table);
    else
      evaluation.metrics.emplace_back(metrics.metric(i).name(), metrics.value(i));
  }
  return evaluation;
}

namespace {

// Names of classes are numbered in their order: where one is missing, others have wrong numbers.
void check_class_names(const Dataset& data, const Task& task) {
  const auto& classes = task.loss().target.classes;
  const auto names = static_cast<std::int64_t>(data.classes.size());
  if (names == 0 || data.classes_given || !classes || names == *classes) return;
  throw_input_error(fmt::format("names of all {} classes that the model has, to number them", *classes),
                    fmt::format("{}: {}", names, fmt::join(data.classes, ",")),
                    "give them in the order of training, as it was printed: --classes A,B,C");
}

// Whoever evaluates a model compares its numbers with another runtime's: half precision is asked for.
TrainerOptions in_fp32(TrainerOptions options) {
  if (!options.precision) options.precision = Precision::fp32;
  return options;
}

}  // namespace

Evaluator::Evaluator(LoadedModel model, Executor& executor, const Dataset& data, const TrainerOptions& options)
    : model_(std::move(model.graph), {.batch_axes = options.batch_axes}),
      executor_(executor),
      input_(options.input),
      task_(std::make_unique<Task>(make_task(model_, data, in_fp32(options)))),
      store_(executor.make_store()) {
  set_precision(*task_, options, resolve(in_fp32(options).precision.value(), executor.capabilities()));
  check_class_names(data, *task_);
  program(task_->batch);
}
Evaluator::~Evaluator() = default;

Evaluation Evaluator::evaluate(const Dataset& data) {
  if (const std::vector<std::string> missing = fit_data(*task_, data, input_).missing_weights; !missing.empty())
    throw_input_error(fmt::format("sample weights '{}' in the data", missing[0]), "none",
                      "give the data that the evaluator was made for");
  return halfstep::evaluate(*task_, input_, data, [this](std::int64_t rows) -> StepProgram& { return program(rows); });
}

DType Evaluator::precision() const { return task_->precision; }
std::string Evaluator::loss_text() const { return task_->loss_text(); }
const LossDef& Evaluator::loss() const { return *task_->loss().row; }
const std::vector<std::string>& Evaluator::notices() const { return task_->notices; }

StepProgram& Evaluator::program(std::int64_t rows) {
  auto& program = programs_[rows];
  if (!program) {
    const Graph graph = model_.lower(Purpose::scoring, task_->step_options(rows), executor_.capabilities());
    program = std::make_unique<StepProgram>(graph, executor_, *store_);
  }
  return *program;
}

}  // namespace halfstep
