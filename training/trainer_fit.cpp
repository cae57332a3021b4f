// The course of a training run.
#include <chrono>
#include <cmath>
#include <limits>
#include <new>
#include <utility>

#include <fmt/format.h>

#include "base/file_lock.h"
#include "training/trainer_impl.h"

namespace halfstep {

void Trainer::Impl::resume(Cursor& cursor, std::int64_t& step, const TrainerCallbacks& callbacks) {
  const LoadedCheckpoint loaded = load_checkpoint(options_.resume);
  if (!loaded.notice.empty() && callbacks.on_notice) callbacks.on_notice(loaded.notice);
  const TrainingState& state = loaded.checkpoint.state;
  ResumeTarget target{.model_fingerprint = fingerprint_,
                      .optimizer = options_.optimizer.name,
                      .tensors = states(),
                      .roles = {},
                      .rows = stream_ ? std::numeric_limits<std::int64_t>::max() : data_.data.rows(),
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
  control_ = {};
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

  const std::unique_ptr<BatchReader> loader = reader(cursor);

  Metrics metrics = task_.new_metrics();
  RunningMean mean_loss;
  StepResult result;
  result.update = updates();
  result.steps_in_epoch = loader->batches_per_epoch();
  result.epoch_samples = rows();
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
    stopped = !reads([&] { batch = loader->next(); }, step > first_step, callbacks);
    if (stopped && step == first_step) throw Error(*failure_);  // nothing is trained that could be lost
    if (!batch) break;
    if (batch->at.epoch != epoch_shown) {
      epoch_shown = batch->at.epoch;
      if (callbacks.on_epoch_begin) callbacks.on_epoch_begin(epoch_shown + 1, batch->at.row);
      metrics.reset();
      mean_loss.reset();
      result.step_in_epoch = batch->at.row / task_.batch;
    }
    if (callbacks.on_step_begin) callbacks.on_step_begin(step + 1);
    if (std::exchange(control_.skip, false)) {
      cursor = batch->next;
      if (control_.stop) break;
      continue;
    }
    StepProgram& program = this->program(Purpose::training, batch->rows);
    const auto start = std::chrono::steady_clock::now();
    result.learning_rate =
        control_.learning_rate ? static_cast<float>(*control_.learning_rate) : options_.schedule.at(result.update);
    const bool updates = (step + 1) % accumulate == 0;
    program.run(*batch, result.learning_rate, updates);
    result.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();

    result.step = ++step;
    result.epoch = batch->at.epoch + 1;
    ++result.step_in_epoch;
    result.samples = batch->ends_epoch() ? batch->at.row + batch->rows : batch->next.row;
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
    mean_loss.add(result.loss, task_.weight_of(*batch));
    result.mean_loss = mean_loss.weight() > 0 ? mean_loss.value() : 0;
    if (metrics.size() > 0) task_.measure(metrics, program, *batch);
    result.metrics = &metrics;
    if (callbacks.on_step) callbacks.on_step(result);
    if (in_vain >= most_in_a_row) diverged(in_vain, step, *batch);

    const bool ends_epoch = batch->ends_epoch();
    cursor = batch->next;
    const bool due = options_.checkpoint_every > 0 ? step % options_.checkpoint_every == 0 : ends_epoch;
    const bool last = options_.steps != 0 && step == options_.steps;
    stopped = stop && stop->load();
    if (!options_.checkpoint.empty() && (due || last || stopped || control_.stop)) {
      try_to_save(cursor, step, callbacks);
      saved = step;
    }
    if (ends_epoch || last) {
      std::optional<Evaluation> evaluation;
      if (validation && !stopped) stopped = !reads([&] { evaluation = evaluate(*validation); }, true, callbacks);
      if (callbacks.on_epoch_end) callbacks.on_epoch_end(result, evaluation ? &*evaluation : nullptr);
    }
    if (stopped || control_.stop) break;
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

}  // namespace halfstep
