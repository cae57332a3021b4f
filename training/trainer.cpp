#include <chrono>
#include <cmath>
#include <new>

#include <fmt/format.h>

#include "base/file_lock.h"
#include "data/batch_loader.h"
#include "onnx_io/declared.h"
#include "passes/autodiff/gradient_flow.h"
#include "passes/load/parameter_choice.h"
#include "passes/step/training_step.h"
#include "training/fingerprint.h"
#include "training/settings.h"
#include "training/step_program.h"
#include "training/task.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

TrainerOptions knowing_exporter(TrainerOptions options, const LoadedModel& model) {
  if (model.source) options.parameters.exporter = exporter_of(*model.source);
  return options;
}

}  // namespace

class Trainer::Impl {
 public:
  Impl(LoadedModel model, Executor& executor, const Dataset& data, TrainerOptions options)
      : model_(std::move(model)),
        executor_(executor),
        options_(knowing_exporter(std::move(options), model_)),
        fingerprint_(fingerprint(model_.graph)),
        prepared_(
            model_.graph,
            {.batch_axes = options_.batch_axes, .parameters = options_.parameters, .observer = options_.observer}),
        task_(make_task(prepared_.graph(), data, options_, executor.capabilities())),
        data_(fit_data(task_, data, options_.input).data),
        store_(executor.make_store()),
        // Building the step now finds whatever does not fit before anything is trained.
        first_graph_(lower(Purpose::training, task_.batch, options_.observer)) {
    check_are_numbers(task_.loss.metrics);
    for (std::string note :
         {prepared_.guesses(),
          describe_cut_off(first_graph_, cut_off_parameters(first_graph_, {TrainingStep(first_graph_).loss}))})
      if (!note.empty()) task_.notices.push_back(std::move(note));
  }

  bool fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop);
  Evaluation evaluate(const Dataset& data);
  std::vector<double> time_plan(int times);

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

  /// Compiled when it is first asked for. States take the layout of the first: that is the training step of full
  /// batches.
  StepProgram& program(Purpose purpose, std::int64_t rows) {
    auto& program = programs_[{purpose, rows}];
    if (!program) {
      const bool first = purpose == Purpose::training && rows == task_.batch;
      program = std::make_unique<StepProgram>(first ? first_graph_ : lower(purpose, rows), executor_, *store_);
    }
    return *program;
  }
  StepProgram& training_program() { return program(Purpose::training, task_.batch); }

  const std::optional<Error>& failure() const { return failure_; }
  const Task& task() const { return task_; }
  const Graph& first_graph() const { return first_graph_; }

 private:
  Graph lower(Purpose purpose, std::int64_t rows, const PassObserver& observer = {}) const {
    return prepared_.lower(purpose, task_.step_options(rows), executor_.capabilities(), observer);
  }
  /// Updates that may be skipped while the loss scale settles.
  std::int64_t backoffs() const { return task_.step.optimizer.loss_scale.backoffs(); }
  Settings settings() const { return settings_of(options_, task_, data_, executor_.name()); }
  /// The states of the training step as they are; an evaluation has some of its own.
  std::map<std::string, Tensor> states() const {
    std::map<std::string, Tensor> result;
    for (const StoredState& state : stored_states(first_graph_)) result[state.key] = store_->read(state.name);
    return result;
  }
  /// The updates applied so far: the optimizer counts them.
  std::int64_t updates() const {
    return to_int64s(store_->read(first_graph_[TrainingStep(first_graph_).updates].name))[0];
  }
  void resume(Cursor& cursor, std::int64_t& step, const TrainerCallbacks& callbacks);
  void save(const Cursor& cursor, std::int64_t step) const;
  void try_to_save(const Cursor& cursor, std::int64_t step, const TrainerCallbacks& callbacks);
  template <class Read>
  bool reads(const Read& read, bool trained, const TrainerCallbacks& callbacks);
  /// For `updates` updates in vain.
  [[noreturn]] void diverged(std::int64_t updates, std::int64_t step, const Batch& batch) const;

  LoadedModel model_;
  Executor& executor_;
  TrainerOptions options_;
  std::string fingerprint_;
  PreparedModel prepared_;
  Task task_;
  Dataset data_;
  std::unique_ptr<StateStore> store_;
  Graph first_graph_;
  std::map<std::pair<Purpose, std::int64_t>, std::unique_ptr<StepProgram>> programs_;
  std::optional<Error> failure_, unsaved_;  // of reading data; of the last checkpoint
};

void Trainer::Impl::resume(Cursor& cursor, std::int64_t& step, const TrainerCallbacks& callbacks) {
  const LoadedCheckpoint loaded = load_checkpoint(options_.resume);
  if (!loaded.notice.empty() && callbacks.on_notice) callbacks.on_notice(loaded.notice);
  const TrainingState& state = loaded.checkpoint.state;
  ResumeTarget target{.model_fingerprint = fingerprint_,
                      .optimizer = options_.optimizer.name,
                      .tensors = states(),
                      .roles = {},
                      .rows = data_.rows(),
                      .settings = settings()};
  const std::vector<StoredState> stored = stored_states(first_graph_);
  for (const StoredState& one : stored) target.roles[one.key] = one.role;
  for (const std::string& notice : check_resumable(loaded.checkpoint, target))
    if (callbacks.on_notice) callbacks.on_notice(notice);
  for (const StoredState& one : stored) {
    const Tensor& tensor = loaded.checkpoint.tensors.at(one.key);
    const DType wanted = target.tensors.at(one.key).dtype();
    store_->write(one.name, tensor.dtype() == wanted ? tensor : convert(tensor, wanted));
  }
  cursor = {state.epoch, state.position};
  step = state.step;
}

void Trainer::Impl::save(const Cursor& cursor, std::int64_t step) const {
  const Checkpoint checkpoint{.tensors = states(),
                              .state = {.step = step,
                                        .epoch = cursor.epoch,
                                        .position = cursor.row,
                                        .optimizer = options_.optimizer.name,
                                        .model_fingerprint = fingerprint_,
                                        .settings = settings()}};
  save_checkpoint(options_.checkpoint, checkpoint);
}

/// A checkpoint that cannot be written is no reason to end a run whose parameters are there.
void Trainer::Impl::try_to_save(const Cursor& cursor, std::int64_t step, const TrainerCallbacks& callbacks) {
  if (callbacks.on_checkpoint) callbacks.on_checkpoint();
  try {
    save(cursor, step);
    unsaved_.reset();
    return;
  } catch (const std::bad_alloc&) {
    unsaved_ = Error(Error::Kind::failure, "memory for a copy of all parameters and moments", "not enough", "");
  } catch (const Error& error) {
    unsaved_ = error;
  }
  if (callbacks.on_notice)
    callbacks.on_notice(
        fmt::format("no checkpoint of step {}: {}; training goes on, and the next one is tried when it is due", step,
                    unsaved_->without_hint()));
}

/// Runs `read`. False where that fails, for a file that can no longer be read or a row that does not fit: then that is
/// the run's failure. Says so where something is trained by then.
template <class Read>
bool Trainer::Impl::reads(const Read& read, bool trained, const TrainerCallbacks& callbacks) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    failure_ = error;
    if (trained && callbacks.on_notice) callbacks.on_notice(fmt::format("training stops: {}", error.without_hint()));
    return false;
  }
}

void Trainer::Impl::diverged(std::int64_t updates, std::int64_t step, const Batch& batch) const {
  std::string where = "not looked for, the batch is a smaller one";
  try {
    if (batch.rows == task_.batch) where = first_non_finite_node(first_graph_, *store_, batch);
  } catch (const Error& error) {  // it keeps every value of the step
    where = "not found, " + error.without_hint();
  } catch (const std::bad_alloc&) {
    where = "not found, too little memory";
  }
  throw_failure(fmt::format("a finite loss and finite gradients at least once in {} updates", updates),
                fmt::format("non-finite ones up to step {}; the first node that went non-finite: {}", step, where),
                "lower the learning rate, clip gradients (--clip-norm), or train in fp32 or bf16");
}

bool Trainer::Impl::fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop) {
  failure_.reset();
  unsaved_.reset();
  FileLock lock;
  if (!options_.checkpoint.empty()) {
    prepare_checkpoint_directory(options_.checkpoint);
    lock = FileLock(options_.checkpoint, "one run at a time for the checkpoints in " + options_.checkpoint.string());
    std::error_code none;
    if (options_.resume.empty() && callbacks.on_notice &&
        std::filesystem::exists(options_.checkpoint / kCheckpointFile, none))
      callbacks.on_notice(
          fmt::format("this run starts anew and replaces the checkpoint in {0}: --resume {0} continues it",
                      options_.checkpoint.string()));
  }
  if (callbacks.on_notice)
    for (const std::string& notice : task_.notices) callbacks.on_notice(notice);
  if (validation) fit_data(task_, *validation, options_.input);
  training_program();
  Cursor cursor;
  std::int64_t step = 0;
  if (!options_.resume.empty()) resume(cursor, step, callbacks);
  if (callbacks.on_start) callbacks.on_start(step);
  const bool done = options_.steps != 0 ? step >= options_.steps : cursor.epoch >= options_.epochs;
  if (done && callbacks.on_notice)
    callbacks.on_notice(fmt::format("nothing is left to train: the checkpoint is of step {}, after {} whole {}", step,
                                    cursor.epoch, cursor.epoch == 1 ? "epoch" : "epochs"));
  const std::int64_t first_step = step;
  std::int64_t saved = step;  // of the last checkpoint that was written or tried

  LoaderOptions loading;
  loading.batch_size = task_.batch;
  loading.shuffle = options_.shuffle;
  loading.drop_last = task_.drop_last;
  loading.seed = options_.seed;
  loading.start = cursor;
  if (options_.steps == 0) loading.end_epoch = options_.epochs;
  BatchLoader loader(data_, task_.x, task_.y, loading);

  Metrics metrics(task_.loss.metrics, task_.loss.reading);
  RunningMean mean_loss;
  StepResult result;
  result.update = updates();
  result.steps_in_epoch = loader.batches_per_epoch();
  result.epoch_samples = data_.rows();
  result.dynamic_loss_scale = task_.step.optimizer.loss_scale.enabled;
  std::int64_t updates_made = 0, in_vain = 0, epoch_shown = -1;  // in_vain: the latest in a row
  bool loss_was_finite = false;
  const auto all_in_vain = [&, earlier_updates = result.update] {
    return updates_made > 0 && in_vain == updates_made && earlier_updates == 0;
  };
  const std::int64_t accumulate = options_.optimizer.accumulate,
                     most_in_a_row = options_.max_skipped_in_a_row + backoffs();
  bool stopped = false;

  while (options_.steps == 0 || step < options_.steps) {
    const Batch* batch = nullptr;
    stopped = !reads([&] { batch = loader.next(); }, step > first_step, callbacks);
    if (stopped && step == first_step) throw Error(*failure_);  // nothing is trained that could be lost
    if (!batch) break;
    if (batch->at.epoch != epoch_shown) {
      epoch_shown = batch->at.epoch;
      if (callbacks.on_epoch_begin) callbacks.on_epoch_begin(epoch_shown + 1, batch->at.row);
      metrics.reset();
      mean_loss.reset();
      result.step_in_epoch = batch->at.row / task_.batch;
    }
    StepProgram& program = this->program(Purpose::training, batch->rows);
    const auto start = std::chrono::steady_clock::now();
    result.learning_rate = options_.schedule.at(result.update);
    const bool updates = (step + 1) % accumulate == 0;
    program.run(*batch, result.learning_rate, updates);
    result.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();

    result.step = ++step;
    result.epoch = batch->at.epoch + 1;
    ++result.step_in_epoch;
    result.samples = batch->ends_epoch() ? data_.rows() : batch->next.row;
    result.loss = program.loss();
    result.grad_norm = program.grad_norm();
    result.grads_finite = program.grads_finite();
    if (result.dynamic_loss_scale) result.loss_scale = program.loss_scale();
    const bool finite_loss = std::isfinite(result.loss);
    loss_was_finite = loss_was_finite || finite_loss;
    if (updates) {
      const bool skipped = !result.grads_finite;
      ++updates_made;
      in_vain = skipped || !finite_loss ? in_vain + 1 : 0;
      result.skipped += skipped;
      result.update += !skipped;
    }
    if (options_.log_grad_norms) result.grad_norms = &program.parameter_norms();
    mean_loss.add(result.loss, static_cast<double>(counted_labels(task_.loss.reading, batch->y, batch->rows)));
    result.mean_loss = mean_loss.weight() > 0 ? mean_loss.value() : 0;
    if (metrics.size() > 0 && program.has_prediction()) metrics.add(program.prediction(), batch->y);
    result.metrics = &metrics;
    if (callbacks.on_step) callbacks.on_step(result);
    if (in_vain >= most_in_a_row) diverged(in_vain, step, *batch);

    const bool ends_epoch = batch->ends_epoch();
    cursor = batch->next;
    const bool due = options_.checkpoint_every > 0 ? step % options_.checkpoint_every == 0 : ends_epoch;
    const bool last = options_.steps != 0 && step == options_.steps;
    stopped = stop && stop->load();
    if (!options_.checkpoint.empty() && (due || last || stopped)) {
      try_to_save(cursor, step, callbacks);
      saved = step;
    }
    if (ends_epoch || last) {
      std::optional<Evaluation> evaluation;
      if (validation && !stopped) stopped = !reads([&] { evaluation = evaluate(*validation); }, true, callbacks);
      if (callbacks.on_epoch_end) callbacks.on_epoch_end(result, evaluation ? &*evaluation : nullptr);
    }
    if (stopped) break;
    // A short run may end before that many.
    const bool ends = last || (options_.steps == 0 && ends_epoch && cursor.epoch >= options_.epochs);
    if (ends && all_in_vain() && (!loss_was_finite || in_vain > backoffs())) diverged(in_vain, step, *batch);
  }
  if ((all_in_vain() || in_vain > backoffs()) && callbacks.on_notice)
    callbacks.on_notice(
        fmt::format("the last {} {} skipped or had a loss that is not finite: lower the learning rate, clip "
                    "gradients (--clip-norm), or train in fp32 or bf16",
                    in_vain, in_vain == 1 ? "update was" : "updates were"));
  if (const std::int64_t left = step % accumulate; left != 0 && !stopped && callbacks.on_notice)
    callbacks.on_notice(fmt::format("the gradients of the last {} {} made no update: --accumulate {} takes as many",
                                    left, left == 1 ? "step" : "steps", accumulate));
  if (!options_.checkpoint.empty() && step > saved && (unsaved_ || failure_)) try_to_save(cursor, step, callbacks);
  if (!failure_) failure_ = unsaved_;
  return !stopped;
}

Evaluation Trainer::Impl::evaluate(const Dataset& data) {
  return halfstep::evaluate(task_, options_.input, data,
                            [this](std::int64_t rows) -> StepProgram& { return program(Purpose::validation, rows); });
}

std::vector<double> Trainer::Impl::time_plan(int times) {
  constexpr int kWarmUp = 3;
  LoaderOptions loading;
  loading.batch_size = task_.batch;
  loading.shuffle = false;
  BatchLoader loader(data_, task_.x, task_.y, loading);
  const Batch* batch = loader.next();
  StepProgram& program = training_program();
  for (int i = 0; i < kWarmUp; ++i) program.run(*batch, options_.schedule.at(0), true);
  return program.time_entries(times);
}

Trainer::Trainer(LoadedModel model, Executor& executor, const Dataset& data, TrainerOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), executor, data, std::move(options))) {}
Trainer::~Trainer() = default;
bool Trainer::fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop) {
  return impl_->fit(callbacks, validation, stop);
}
const std::optional<Error>& Trainer::failure() const { return impl_->failure(); }
Evaluation Trainer::evaluate(const Dataset& data) { return impl_->evaluate(data); }
std::map<std::string, Tensor> Trainer::parameters() const { return impl_->parameters(); }
DType Trainer::precision() const { return impl_->task().precision; }
LossKind Trainer::loss() const { return impl_->task().loss.kind; }
const std::vector<Metric>& Trainer::metrics() const { return impl_->task().loss.metrics; }
std::int64_t Trainer::parameter_count() const {
  std::int64_t count = 0;
  for (const State& state : impl_->first_graph().states)
    if (state.role == StateRole::parameter && state.next != kNoValue) count += state.initial.count();
  return count;
}
const Plan& Trainer::plan() { return impl_->training_program().plan(); }
std::vector<double> Trainer::time_plan(int times) { return impl_->time_plan(times); }

}  // namespace halfstep
