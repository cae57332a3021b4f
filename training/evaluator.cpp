#include "training/evaluator.h"

#include <algorithm>

#include "data/batch_loader.h"
#include "training/step_program.h"
#include "training/task.h"

namespace halfstep {

Evaluation evaluate(const Task& task, const InputOptions& input, const Dataset& unordered,
                    const std::function<StepProgram&(std::int64_t rows)>& program) {
  const Dataset data = in_order_of(task.x_names, unordered);
  require_full_batch(task, data);
  std::vector<RowType> rows;
  for (const RowTransform& x : task.x) rows.push_back(x.to);
  LoaderOptions loading;
  loading.batch_size = std::min(task.batch, data.rows());
  loading.shuffle = false;
  loading.drop_last = task.drop_last;
  loading.end_epoch = 1;
  BatchLoader loader(data, fit_inputs(data, rows, input),
                     fit_target(data.y, task.loss.label, {.classes = task.loss.classes}), loading);
  Metrics metrics(task.loss.metrics, task.loss.binary_threshold);
  RunningMean loss;
  Evaluation evaluation;
  while (const Batch* batch = loader.next()) {
    StepProgram& step = program(batch->rows);
    step.run(*batch, 0, false);
    loss.add(step.loss(), static_cast<double>(batch->rows));
    if (metrics.size() > 0 && step.has_prediction()) metrics.add(step.prediction(), batch->y);
    evaluation.rows += batch->rows;
  }
  evaluation.loss = loss.value();
  for (std::size_t i = 0; i < metrics.size(); ++i)
    evaluation.metrics.emplace_back(metrics.metric(i).name(), metrics.value(i));
  return evaluation;
}

Evaluator::Evaluator(LoadedModel model, Executor& executor, const Dataset& data, const TrainerOptions& options)
    : model_(std::move(model.graph)),
      executor_(executor),
      input_(options.input),
      task_(std::make_unique<Task>(
          make_task(model_, in_order_of(data_inputs(model_, options.loss), data), options, executor.capabilities()))),
      store_(executor.make_store()) {
  program(task_->batch);
}
Evaluator::~Evaluator() = default;

Evaluation Evaluator::evaluate(const Dataset& data) {
  return halfstep::evaluate(*task_, input_, data, [this](std::int64_t rows) -> StepProgram& { return program(rows); });
}

DType Evaluator::precision() const { return task_->precision; }
LossKind Evaluator::loss() const { return task_->loss.kind; }
const std::vector<std::string>& Evaluator::notices() const { return task_->notices; }

StepProgram& Evaluator::program(std::int64_t rows) {
  auto& program = programs_[rows];
  if (!program) {
    const Graph graph = run_pipeline(model_, scoring_pipeline(task_->step_options(rows), executor_.capabilities()));
    program = std::make_unique<StepProgram>(graph, executor_, *store_, task_->x.size());
  }
  return *program;
}

}  // namespace halfstep
