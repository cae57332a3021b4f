#include "training/trainer.h"

#include <array>
#include <chrono>

#include <fmt/format.h>

#include "data/batch_loader.h"
#include "graph/error.h"
#include "training/checkpoint.h"
#include "training/defaults.h"
#include "training/fingerprint.h"
#include "training/step_program.h"

namespace halfstep {
namespace {

struct PrecisionName {
  Precision precision;
  std::string_view name;
};
constexpr std::array<PrecisionName, 4> kPrecisions{
    {{Precision::automatic, "auto"}, {Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}, {Precision::fp16, "fp16"}}};

RowType row_of(const Value& input) {
  if (!input.shape.is_ranked()) return {input.dtype, Shape::unranked()};
  return {input.dtype,
          Shape(std::vector<std::int64_t>(input.shape.begin() + (input.shape.rank() ? 1 : 0), input.shape.end()))};
}

Shape with_batch(std::int64_t rows, const Shape& row) {
  std::vector<std::int64_t> dims{rows};
  dims.insert(dims.end(), row.begin(), row.end());
  return Shape(std::move(dims));
}

}  // namespace

Precision parse_precision(std::string_view name) {
  for (const PrecisionName& p : kPrecisions)
    if (p.name == name) return p.precision;
  throw_input_error("a precision: auto, fp32, bf16, fp16", "'" + std::string(name) + "'",
                    "check --precision and HALFSTEP_PRECISION");
}

std::string_view name_of(Precision precision) {
  for (const PrecisionName& p : kPrecisions)
    if (p.precision == precision) return p.name;
  return "unknown";
}

DType resolve(Precision precision, const Capabilities& capabilities) {
  switch (precision) {
    case Precision::fp32:
      return DType::f32;
    case Precision::bf16:
      return DType::bf16;
    case Precision::fp16:
      return DType::f16;
    case Precision::automatic:
      break;
  }
  return capabilities.auto_precision;
}

class Trainer::Impl {
 public:
  Impl(LoadedModel model, Executor& executor, Dataset data, TrainerOptions options)
      : model_(std::move(model)),
        executor_(executor),
        data_(std::move(data)),
        options_(std::move(options)),
        store_(executor.make_store()) {
    if (model_.graph.inputs.empty()) throw_input_error("a model with an input", "none", "export the model again");
    if (options_.batch_size < 1)
      throw_input_error("a batch of at least 1 row", std::to_string(options_.batch_size), "check --batch");
    precision_ = resolve(options_.precision, executor.capabilities());
    x_name_ = model_.graph[model_.graph.inputs[0]].name;
    choose_batch();
    choose_labels();
    choose_loss_scale();
    fingerprint_ = fingerprint(model_.graph);
    // Building the step now finds whatever does not fit before anything is trained.
    first_graph_ = training_graph(batch_, options_.observer);
  }

  bool fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop);
  Evaluation evaluate(const Dataset& data);

  std::map<std::string, Tensor> parameters() {
    std::map<std::string, Tensor> result;
    for (const State& state : first_graph_.states) {
      if (state.role != StateRole::parameter && state.role != StateRole::statistic) continue;
      const std::string& name = first_graph_[state.value].name;
      if (model_.graph.find(name) == kNoValue) continue;
      result[name] = store_->has(name) ? store_->read(name) : state.initial.clone();
    }
    return result;
  }

  StepProgram& training_program(std::int64_t rows) {
    auto& program = training_programs_[rows];
    if (!program) {
      // States take the layout of the first program: that is the one of full batches.
      const Graph graph = rows == batch_ ? first_graph_ : training_graph(rows, {});
      program = std::make_unique<StepProgram>(graph, executor_, *store_, x_name_, y_name_);
    }
    return *program;
  }

  DType precision_ = DType::f32;
  LossChoice loss_;
  const Graph& first_graph() const { return first_graph_; }

 private:
  void choose_batch() {
    const Shape& shape = model_.graph[model_.graph.inputs[0]].shape;
    const std::int64_t fixed = shape.is_ranked() && shape.rank() > 0 ? shape[0] : Shape::kUnknown;
    batch_ = std::min(options_.batch_size, data_.rows());
    if (fixed == Shape::kUnknown || fixed == batch_) return;
    if (data_.rows() < fixed)
      throw_input_error(fmt::format("at least {} rows: the model's batch size is fixed", fixed),
                        std::to_string(data_.rows()), "export the model with a dynamic batch dimension");
    notices_.push_back(
        fmt::format("the model's batch size is fixed at {}: batches have that size{}", fixed,
                    data_.rows() % fixed ? ", and an epoch's last rows that do not fill one are left out" : ""));
    batch_ = fixed;
    drop_last_ = true;
  }

  void choose_labels() {
    const RowType x = row_of(model_.graph[model_.graph.inputs[0]]);
    x_transform_ = fit_input(data_.x, x, options_.input);
    InputShapes shapes;
    shapes.by_name[x_name_] = with_batch(batch_, x_transform_.to.shape);
    if (options_.loss == LossKind::output) {
      if (model_.graph.inputs.size() < 2)
        throw_input_error("a model that computes its own loss takes the labels as its second input", "one input",
                          "choose a loss with --loss");
      const Value& labels = model_.graph[model_.graph.inputs[1]];
      y_name_ = labels.name;
      loss_.kind = LossKind::output;
      y_transform_ = fit_target(data_.y, row_of(labels));
      loss_.label = y_transform_.to;
      return;
    }
    Graph bound = run_pipeline(model_.graph, {separate_merged_parameters(), bind_shapes(shapes), fold_constants()});
    const ValueId output = options_.loss_output.empty() ? bound.outputs.at(0) : bound.find(options_.loss_output);
    if (output == kNoValue || !bound[output].shape.is_static())
      throw_input_error("a model output of static shape to compute the loss from",
                        options_.loss_output.empty() ? "none" : "'" + options_.loss_output + "'",
                        "name an output of the model");
    loss_ = choose_loss(bound, output, data_.y, options_.loss);
    y_name_ = "labels";
    if (loss_.label.dtype == DType::f32 && loss_.kind == LossKind::softmax_cross_entropy)
      loss_.label.shape = row_of(bound[output]).shape;
    y_transform_ = fit_target(data_.y, loss_.label, {.classes = loss_.classes});
    if (options_.metrics) loss_.metrics = *options_.metrics;
  }

  void choose_loss_scale() {
    LossScaleOptions& scale = options_.optimizer.loss_scale;
    scale.enabled = options_.loss_scale ? *options_.loss_scale > 0 : precision_ == DType::f16;
    if (options_.loss_scale && *options_.loss_scale > 0) scale.initial = *options_.loss_scale;
    options_.optimizer.output_gradient_norms = options_.log_grad_norms;
    options_.mode.seed = static_cast<std::int64_t>(options_.seed);
  }

  TrainingOptions pipeline_options(std::int64_t rows) const {
    TrainingOptions o;
    o.parameters = options_.parameters;
    o.mode = options_.mode;
    o.precision = precision_;
    o.optimizer = options_.optimizer;
    o.loss = {.kind = loss_.kind,
              .output = options_.loss_output,
              .label_dtype = loss_.label.dtype,
              .label_shape = with_batch(rows, loss_.label.shape)};
    o.shapes.by_name[x_name_] = with_batch(rows, x_transform_.to.shape);
    if (loss_.kind == LossKind::output) o.shapes.by_name[y_name_] = with_batch(rows, loss_.label.shape);
    return o;
  }

  Graph training_graph(std::int64_t rows, const PassObserver& observer) const {
    return run_pipeline(model_.graph, training_pipeline(pipeline_options(rows), executor_.capabilities()), observer);
  }

  StepProgram& evaluation_program(std::int64_t rows) {
    auto& program = evaluation_programs_[rows];
    if (!program) {
      const Graph graph =
          run_pipeline(model_.graph, evaluation_pipeline(pipeline_options(rows), executor_.capabilities()));
      program = std::make_unique<StepProgram>(graph, executor_, *store_, x_name_, y_name_);
    }
    return *program;
  }

  void resume(Cursor& cursor, std::int64_t& step, const TrainerCallbacks& callbacks);
  void save(const Cursor& cursor, std::int64_t step) const;
  [[noreturn]] void diverged(std::int64_t step, const Batch& batch) const;

  LoadedModel model_;
  Executor& executor_;
  Dataset data_;
  TrainerOptions options_;
  std::unique_ptr<StateStore> store_;
  std::string x_name_, y_name_, fingerprint_;
  RowTransform x_transform_, y_transform_;
  std::int64_t batch_ = 0;
  bool drop_last_ = false;
  std::vector<std::string> notices_;
  Graph first_graph_;
  std::map<std::int64_t, std::unique_ptr<StepProgram>> training_programs_, evaluation_programs_;
};

void Trainer::Impl::resume(Cursor& cursor, std::int64_t& step, const TrainerCallbacks& callbacks) {
  const LoadedCheckpoint loaded = load_checkpoint(options_.resume);
  if (!loaded.notice.empty() && callbacks.on_notice) callbacks.on_notice(loaded.notice);
  const TrainingState& state = loaded.checkpoint.state;
  ResumeTarget target{fingerprint_, std::string(name_of(options_.optimizer.kind)), {}};
  for (const std::string& name : store_->names()) target.tensors[name] = store_->read(name);
  check_resumable(loaded.checkpoint, target);
  if (state.seed != options_.seed && callbacks.on_notice)
    callbacks.on_notice(fmt::format("resuming with seed {}, the checkpoint's was {}: the order of the data differs",
                                    options_.seed, state.seed));
  for (const auto& [name, tensor] : loaded.checkpoint.tensors) store_->write(name, tensor);
  cursor = {state.epoch, state.position};
  step = state.step;
}

void Trainer::Impl::save(const Cursor& cursor, std::int64_t step) const {
  Checkpoint checkpoint;
  for (const std::string& name : store_->names()) checkpoint.tensors[name] = store_->read(name);
  TrainingState& s = checkpoint.state;
  s.step = step;
  s.epoch = cursor.epoch;
  s.position = cursor.row;
  s.seed = options_.seed;
  s.optimizer = name_of(options_.optimizer.kind);
  s.schedule = options_.schedule.to_string();
  s.model_fingerprint = fingerprint_;
  s.precision = name_of(precision_);
  s.executor = executor_.name();
  s.batch_size = batch_;
  save_checkpoint(options_.checkpoint, checkpoint);
}

void Trainer::Impl::diverged(std::int64_t step, const Batch& batch) const {
  std::string where = "not looked for, the batch is a smaller one";
  if (batch.rows == batch_) where = first_non_finite_node(first_graph_, *store_, x_name_, y_name_, batch.x, batch.y);
  throw_failure(fmt::format("finite gradients at least once in {} steps", options_.max_skipped_in_a_row),
                fmt::format("non-finite ones up to step {}; the first node that went non-finite: {}", step, where),
                "lower the learning rate, clip gradients (--clip-norm), or train in fp32 or bf16");
}

bool Trainer::Impl::fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop) {
  if (callbacks.on_notice)
    for (const std::string& notice : notices_) callbacks.on_notice(notice);
  training_program(batch_);
  Cursor cursor;
  std::int64_t step = 0;
  if (!options_.resume.empty()) resume(cursor, step, callbacks);

  LoaderOptions loading;
  loading.batch_size = batch_;
  loading.shuffle = options_.shuffle;
  loading.drop_last = drop_last_;
  loading.seed = options_.seed;
  loading.start = cursor;
  if (options_.steps == 0) loading.end_epoch = options_.epochs;
  BatchLoader loader(data_, x_transform_, y_transform_, loading);

  Metrics metrics(loss_.metrics, loss_.binary_threshold);
  RunningMean mean_loss;
  StepResult result;
  result.steps_in_epoch = loader.batches_per_epoch();
  result.epoch_samples = data_.rows();
  result.dynamic_loss_scale = options_.optimizer.loss_scale.enabled;
  std::int64_t skipped_in_a_row = 0, epoch_shown = -1;
  const std::int64_t accumulate = options_.optimizer.accumulate;
  const bool scaled = options_.optimizer.loss_scale.enabled;
  bool stopped = false;

  while (options_.steps == 0 || step < options_.steps) {
    const Batch* batch = loader.next();
    if (!batch) break;
    if (batch->at.epoch != epoch_shown) {
      epoch_shown = batch->at.epoch;
      if (callbacks.on_epoch_begin) callbacks.on_epoch_begin(epoch_shown, batch->at.row);
      metrics.reset();
      mean_loss.reset();
      result.step_in_epoch = batch->at.row / batch_;
    }
    StepProgram& program = training_program(batch->rows);
    if (scaled) result.loss_scale = *store_->read("loss_scale").data<float>();
    const auto start = std::chrono::steady_clock::now();
    result.learning_rate = options_.schedule.at(step / accumulate);
    program.run(batch->x, batch->y, result.learning_rate, (step + 1) % accumulate == 0);
    result.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();

    result.step = ++step;
    result.epoch = batch->at.epoch;
    ++result.step_in_epoch;
    result.samples = batch->ends_epoch() ? data_.rows() : batch->next.row;
    result.loss = program.loss();
    result.grad_norm = program.grad_norm();
    result.grads_finite = program.grads_finite();
    skipped_in_a_row = result.grads_finite ? 0 : skipped_in_a_row + 1;
    result.skipped += !result.grads_finite;
    if (options_.log_grad_norms) result.grad_norms = &program.parameter_norms();
    mean_loss.add(result.loss, static_cast<double>(batch->rows));
    result.mean_loss = mean_loss.value();
    if (metrics.size() > 0 && program.has_prediction()) metrics.add(program.prediction(), batch->y);
    result.metrics = &metrics;
    if (callbacks.on_step) callbacks.on_step(result);
    if (skipped_in_a_row >= options_.max_skipped_in_a_row) diverged(step, *batch);

    const bool ends_epoch = batch->ends_epoch();
    cursor = batch->next;
    const bool due = options_.checkpoint_every > 0 ? step % options_.checkpoint_every == 0 : ends_epoch;
    const bool last = options_.steps != 0 && step == options_.steps;
    stopped = stop && stop->load();
    if (!options_.checkpoint.empty() && (due || last || stopped)) save(cursor, step);
    if (ends_epoch || last) {
      std::optional<Evaluation> evaluation;
      if (validation && !stopped) evaluation = evaluate(*validation);
      if (callbacks.on_epoch_end) callbacks.on_epoch_end(result, evaluation ? &*evaluation : nullptr);
    }
    if (stopped) break;
  }
  return !stopped;
}

Evaluation Trainer::Impl::evaluate(const Dataset& data) {
  LoaderOptions loading;
  loading.batch_size = std::min(batch_, data.rows());
  loading.shuffle = false;
  loading.drop_last = drop_last_;
  loading.end_epoch = 1;
  BatchLoader loader(data, fit_input(data.x, x_transform_.to, options_.input),
                     fit_target(data.y, loss_.label, {.classes = loss_.classes}), loading);
  Metrics metrics(loss_.metrics, loss_.binary_threshold);
  RunningMean loss;
  Evaluation evaluation;
  while (const Batch* batch = loader.next()) {
    StepProgram& program = evaluation_program(batch->rows);
    program.run(batch->x, batch->y, 0, false);
    loss.add(program.loss(), static_cast<double>(batch->rows));
    if (metrics.size() > 0 && program.has_prediction()) metrics.add(program.prediction(), batch->y);
    evaluation.rows += batch->rows;
  }
  evaluation.loss = loss.value();
  for (std::size_t i = 0; i < metrics.size(); ++i)
    evaluation.metrics.emplace_back(metrics.metric(i).name(), metrics.value(i));
  return evaluation;
}

Trainer::Trainer(LoadedModel model, Executor& executor, Dataset data, TrainerOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), executor, std::move(data), std::move(options))) {}
Trainer::~Trainer() = default;
bool Trainer::fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop) {
  return impl_->fit(callbacks, validation, stop);
}
Evaluation Trainer::evaluate(const Dataset& data) { return impl_->evaluate(data); }
std::map<std::string, Tensor> Trainer::parameters() const { return impl_->parameters(); }
DType Trainer::precision() const { return impl_->precision_; }
LossKind Trainer::loss() const { return impl_->loss_.kind; }
const std::vector<Metric>& Trainer::metrics() const { return impl_->loss_.metrics; }
std::int64_t Trainer::parameter_count() const {
  std::int64_t count = 0;
  for (const State& state : impl_->first_graph().states)
    if (state.role == StateRole::parameter) count += state.initial.count();
  return count;
}
const Plan& Trainer::plan() {
  const Graph& graph = impl_->first_graph();
  return impl_->training_program(graph[graph.inputs[0]].shape[0]).plan();
}

}  // namespace halfstep
