// The course of a training run.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <new>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/file_lock.h"
#include "distributed/gather.h"
#include "graph/placeholder.h"
#include "training/epoch_sums.h"
#include "training/over_ranks.h"
#include "training/ranks.h"
#include "training/trainer_impl.h"

namespace halfstep {

namespace {

/// What a checkpoint calls the trainer's own sums.
constexpr const char* kRunningEpoch = "running epoch";
/// What it calls that which gradients have lost by rounding, the sum over ranks.
constexpr const char* kResiduals = "residuals of gradients";

/// Has each callback go on with what the checkpoint has of it. Tells what starts anew, and what nobody goes on with:
/// `own` is the trainer's.
void load_kept(const Checkpoint& checkpoint, const TrainerCallbacks& callbacks, const std::set<std::string>& own) {
  const auto notify = [&](const std::string& text) {
    if (callbacks.on_notice) callbacks.on_notice(text);
  };
  for (const KeptState& state : callbacks.kept)
    if (const auto at = checkpoint.kept.find(state.name); at != checkpoint.kept.end())
      state.load(at->second);
    else
      notify(fmt::format("the checkpoint has no state of the {}, which starts from scratch", state.name));
  for (const auto& [name, tensors] : checkpoint.kept)
    if (!own.contains(name) && std::ranges::find(callbacks.kept, name, &KeptState::name) == callbacks.kept.end())
      notify(fmt::format("resuming without the {} that the checkpoint has", name));
}

}  // namespace

Checkpoint Trainer::Impl::resume(const TrainerCallbacks& callbacks) {
  LoadedCheckpoint loaded = load_checkpoint(options_.resume);
  if (!loaded.notice.empty() && callbacks.on_notice) callbacks.on_notice(loaded.notice);
  if (ranks()) require_same_checkpoint(*ranks(), loaded.checkpoint);
  ResumeTarget target{.model_fingerprint = fingerprint_,
                      .optimizer = options_.optimizer.name,
                      .tensors = {},
                      .roles = {},
                      .rows = stream_ ? std::numeric_limits<std::int64_t>::max() : data_.data.rows(),
                      .settings = settings()};
  for (const OwnedState& state : states()) {
    target.tensors[state.type.name] = zeros_of(state.type.dtype, state.type.shape);
    target.roles[state.type.name] = state.role;
  }
  for (const std::string& notice : check_resumable(loaded.checkpoint, target))
    if (callbacks.on_notice) callbacks.on_notice(notice);
  for (const OwnedState& state : states()) {
    if (state.name.empty()) continue;  // other ranks'
    const Tensor& tensor = loaded.checkpoint.tensors.at(state.type.name);
    store_->write(state.name, tensor.dtype() == state.type.dtype ? tensor : convert(tensor, state.type.dtype));
  }
  std::set<std::string> own{kRunningEpoch};
  if (has_residuals()) {
    own.insert(kResiduals);
    if (const auto at = loaded.checkpoint.kept.find(kResiduals); at != loaded.checkpoint.kept.end())
      set_residuals(at->second);
  }
  load_kept(loaded.checkpoint, callbacks, own);
  return std::move(loaded.checkpoint);
}

/// A checkpoint that cannot be written is no reason to end a run whose parameters are there.
void Trainer::Impl::try_to_save(const LazyTensors& states, const TrainingState& place,
                                const std::map<std::string, NamedTensors>& own, const TrainerCallbacks& callbacks) {
  if (callbacks.on_checkpoint) callbacks.on_checkpoint();
  try {
    TrainingState state = place;
    state.optimizer = options_.optimizer.name;
    state.model_fingerprint = fingerprint_;
    state.settings = settings();
    std::map<std::string, NamedTensors> kept = own;
    for (const KeptState& one : callbacks.kept) kept[one.name] = one.save();
    save_checkpoint(options_.checkpoint, states, state, kept);
    unsaved_.reset();
    return;
  } catch (const SharedError&) {
    throw;  // what other ranks have cannot be read: no later checkpoint can be written either
  } catch (const std::bad_alloc&) {
    unsaved_ = Error(Error::Kind::failure, "memory for a copy of all parameters and moments", "not enough", "");
  } catch (const Error& error) {
    unsaved_ = error;
  }
  if (callbacks.on_notice)
    callbacks.on_notice(
        fmt::format("no checkpoint of step {}: {}; training continues, and the next one is tried when it is due",
                    place.step, unsaved_->without_hint()));
}

/// Runs `read`. False where that fails, for a file that can no longer be read or a row that does not fit: then that is
/// the run's failure. Says so where something is trained by then.
template <class Read>
bool Trainer::Impl::reads(const Read& read, bool trained, const TrainerCallbacks& callbacks) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    if (ranks()) throw;  // the others go on until the caller ends them (Communicator::abort)
    failure_ = error;
    if (trained && callbacks.on_notice) callbacks.on_notice(fmt::format("training stops: {}", error.without_hint()));
    return false;
  }
}

void Trainer::Impl::diverged(std::int64_t updates, std::int64_t step, const Batch& batch) const {
  std::string where = "not determined, the batch is smaller than the others";
  try {
    if (batch.rows == task_.batch) where = first_non_finite_node(first_graph_, *store_, batch);
  } catch (const Error& error) {  // it keeps every value of the step
    where = "not determined, " + error.without_hint();
  } catch (const std::bad_alloc&) {
    where = "not determined, too little memory";
  }
  if (ranks()) {  // each has looked at rows of its own
    const std::vector<std::string> all = gather(*ranks(), where);
    where.clear();
    std::set<std::string> told;
    for (std::size_t rank = 0; rank < all.size(); ++rank)
      if (told.insert(all[rank]).second)
        where += fmt::format("{}{} on rank {}", where.empty() ? "" : ", ", all[rank], rank);
  }
  throw SharedError(Error::Kind::failure,
                    fmt::format("a finite loss and finite gradients at least once in {} updates", updates),
                    fmt::format("non-finite ones up to step {}; the first node that went non-finite: {}", step, where),
                    "lower the learning rate, clip gradients (--clip-norm), or train in fp32 or bf16");
}

bool Trainer::Impl::fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop) {
  failure_.reset();
  unsaved_.reset();
  control_ = {};
  FileLock lock;
  if (!options_.checkpoint.empty() && is_first_rank()) {
    prepare_checkpoint_directory(options_.checkpoint);
    lock = FileLock(options_.checkpoint, "one run at a time for the checkpoints in " + options_.checkpoint.string());
    std::error_code none;
    if (options_.resume.empty() && callbacks.on_notice &&
        std::filesystem::exists(options_.checkpoint / kCheckpointFile, none))
      callbacks.on_notice(
          fmt::format("this run starts from scratch and replaces the checkpoint in {0}: --resume {0} continues it",
                      options_.checkpoint.string()));
  }
  if (callbacks.on_notice)
    for (const std::string& notice : task_.notices) callbacks.on_notice(notice);
  if (validation) {
    const TaskData data = fit_data(task_, *validation, options_.input);
    check_ignored_labels(task_, data, options_.ignore_label);
    for (const std::string& name : data.missing_weights)
      if (callbacks.on_notice)
        callbacks.on_notice(fmt::format("the validation data has no '{}': its rows are unweighted", name));
  }
  training_program();
  Cursor cursor;
  std::int64_t step = 0;
  EpochSums sums(task_);
  StepResult result;
  bool epoch_ends = false;  // its validation, and what follows it, is still to come
  StepAgreement agreement(ranks(), task_.terms.size());
  std::vector<double> weights(task_.terms.size());
  if (!options_.resume.empty()) {
    const Checkpoint checkpoint = resume(callbacks);
    cursor = {checkpoint.state.epoch, checkpoint.state.position};
    step = checkpoint.state.step;
    epoch_ends = checkpoint.state.epoch_ends && cursor.row == 0 && cursor.epoch > 0;
    if (const auto at = checkpoint.kept.find(kRunningEpoch); at != checkpoint.kept.end())
      sums.load(at->second, result, is_first_rank());
  }
  if (callbacks.on_start) callbacks.on_start(step);
  bool ends_run = false;  // what `control_` says on any rank
  const auto agree_on_end = [&] { ends_run = any_of(ranks(), ends_run || control_.stop); };
  agree_on_end();
  const auto is_done = [&] {
    return ends_run || (options_.steps != 0 ? step >= options_.steps : cursor.epoch >= options_.epochs);
  };
  if (is_done() && !epoch_ends && callbacks.on_notice)
    callbacks.on_notice(fmt::format("nothing is left to train: the checkpoint is of step {}, after {} whole {}", step,
                                    cursor.epoch, cursor.epoch == 1 ? "epoch" : "epochs"));
  const std::int64_t first_step = step;
  const auto place = [&] { return std::tuple(step, cursor, epoch_ends); };
  auto saved = place();  // of the last checkpoint that was written or tried

  const std::unique_ptr<BatchReader> loader = reader(cursor);
  for (const auto& [key, program] : programs_)
    if (program) program->forget_ahead();  // of another reader; there is none where compiling it failed

  result.step = step;
  result.update = updates();
  result.steps_in_epoch = loader->batches_per_epoch();
  result.epoch_samples = rows();
  result.dynamic_loss_scale = task_.step.optimizer.loss_scale.enabled;
  if (ranks()) sums.merge(*ranks());
  sums.tell(result);
  std::int64_t updates_made = 0, in_vain = 0;                     // in_vain: the latest in a row
  std::int64_t epoch_shown = cursor.row > 0 ? cursor.epoch : -1;  // of which the sums are
  bool epoch_told = false, loss_was_finite = false;
  const auto all_in_vain = [&, earlier_updates = result.update] {
    return updates_made > 0 && in_vain == updates_made && earlier_updates == 0;
  };
  const std::int64_t accumulate = options_.optimizer.accumulate,
                     most_in_a_row = options_.max_skipped_in_a_row + backoffs();
  bool stopped = false;
  const auto stop_asked = [&] { return ranks() ? agreement.wishes().stop : stop && stop->load(); };
  RankTimes times, mean_times;  // over the epoch's steps
  std::int64_t timed = 0;
  std::vector<RankTimes> all_times(ranks() ? static_cast<std::size_t>(ranks()->size()) : 0);
  // Validates and tells the callbacks. False where a stop or the data kept it from that.
  const auto end_epoch = [&] {
    std::optional<Evaluation> evaluation;
    if (validation) {
      if (stop_asked() || !reads([&] { evaluation = evaluate(*validation); }, true, callbacks)) {
        stopped = true;
        return false;
      }
    }
    if (ranks()) {
      const double steps = std::max<double>(1, static_cast<double>(timed));
      mean_times = {times.step / steps, times.waited / steps};
      ranks()->all_gather(&mean_times, all_times.data(), sizeof mean_times);
      result.rank_times = &all_times;
    }
    if (callbacks.on_epoch_end) callbacks.on_epoch_end(result, evaluation ? &*evaluation : nullptr);
    result.rank_times = nullptr;
    agree_on_end();
    return true;
  };
  const auto save = [&] {
    TrainingState state;
    state.step = step;
    state.epoch = cursor.epoch;
    state.position = cursor.row;
    state.epoch_ends = epoch_ends;
    if (ranks()) sums.merge(*ranks());
    std::map<std::string, NamedTensors> own;
    if (is_first_rank()) own[kRunningEpoch] = sums.state(result);
    if (has_residuals()) own[kResiduals] = residuals();
    read_states([&](const LazyTensors& states) { try_to_save(states, state, own, callbacks); });
    saved = place();
  };

  if (epoch_ends) {
    result.epoch = cursor.epoch;
    result.samples = result.epoch_samples;
    result.step_in_epoch = result.steps_in_epoch;
    if (callbacks.on_epoch_begin) callbacks.on_epoch_begin(cursor.epoch, result.samples);
    epoch_ends = !end_epoch();
    if (!epoch_ends && !options_.checkpoint.empty()) save();
  }
  while (!stopped && !ends_run && (options_.steps == 0 || step < options_.steps)) {
    // A callback of the step before, on several ranks, where all agree on it now.
    const bool ended = control_.stop;
    const Batch* batch = nullptr;
    stopped = !reads([&] { batch = loader->next(); }, step > first_step, callbacks);
    if (stopped && step == first_step) throw Error(*failure_);  // nothing is trained that could be lost
    if (!batch) break;
    if (batch->at.epoch != epoch_shown || !epoch_told) {
      if (batch->at.epoch != epoch_shown) sums.reset();
      epoch_shown = batch->at.epoch;
      epoch_told = true;
      times = {};
      timed = 0;
      if (callbacks.on_epoch_begin) callbacks.on_epoch_begin(epoch_shown + 1, batch->at.row);
      result.step_in_epoch = batch->at.row / task_.all_rows;
    }
    if (callbacks.on_step_begin) callbacks.on_step_begin(step + 1);
    task_.weigh(*batch, weights);
    StepProgram& program = this->program(Purpose::training, batch->rows);
    const auto here = std::chrono::steady_clock::now();
    agreement.exchange(weights, batch->is_spare, program.order(),
                       {.stop = stop && stop->load(),
                        .ended = ended,
                        .end = control_.stop,
                        .skip = std::exchange(control_.skip, false),
                        .learning_rate = control_.learning_rate});
    const StepWishes& wishes = agreement.wishes();
    const auto start = std::chrono::steady_clock::now();
    ends_run = wishes.end;
    if (wishes.ended) break;
    if (wishes.skip) {
      cursor = batch->next;
      stopped = stop_asked();
      if (!batch->ends_epoch()) continue;
      result.epoch = batch->at.epoch + 1;
      result.samples = batch->at.row + batch->all_rows;
      if (ranks()) sums.merge(*ranks());
      sums.tell(result);
      epoch_ends = !end_epoch();
      if (!options_.checkpoint.empty() && options_.checkpoint_every == 0) save();
      continue;
    }
    result.learning_rate =
        wishes.learning_rate ? static_cast<float>(*wishes.learning_rate) : options_.schedule.at(result.update);
    const bool updates = (step + 1) % accumulate == 0;
    program.run(*batch, result.learning_rate, updates, agreement.shares(), loader.get());
    const auto milliseconds = [](auto duration) { return std::chrono::duration<double, std::milli>(duration).count(); };
    result.ms = milliseconds(std::chrono::steady_clock::now() - start);
    times = {times.step + result.ms, times.waited + milliseconds(start - here)};
    ++timed;

    result.step = ++step;
    result.epoch = batch->at.epoch + 1;
    ++result.step_in_epoch;
    result.samples = batch->ends_epoch() ? batch->at.row + batch->all_rows : batch->next.row;
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
    sums.add(program, *batch, agreement.weights());
    const bool last = options_.steps != 0 && step == options_.steps;
    if (ranks() && (batch->ends_epoch() || last)) sums.merge(*ranks());
    sums.tell(result);
    if (callbacks.on_step) callbacks.on_step(result);
    ends_run = ends_run || (!ranks() && control_.stop);
    if (in_vain >= most_in_a_row) diverged(in_vain, step, *batch);

    const bool ends_epoch = batch->ends_epoch();
    cursor = batch->next;
    const bool due = options_.checkpoint_every > 0 ? step % options_.checkpoint_every == 0 : ends_epoch;
    stopped = stop_asked();
    const auto save_if_due = [&] {
      if (!options_.checkpoint.empty() && (due || last || stopped || ends_run)) save();
    };
    // What an epoch's end changes belongs to its checkpoint; the end of a run within one is none of an epoch.
    if (!ends_epoch) save_if_due();
    if (ends_epoch && sums.is_empty() && callbacks.on_notice)
      callbacks.on_notice(
          fmt::format("every label of epoch {} is ignored or has weight 0, so nothing is learned from them; check the "
                      "labels, --ignore-label and sample weights",
                      batch->at.epoch + 1));
    if (ends_epoch || last) epoch_ends = !end_epoch() && ends_epoch;
    if (ends_epoch) save_if_due();
    if (stopped || ends_run) break;
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
    callbacks.on_notice(fmt::format("the gradients of the last {} {} were not applied: --accumulate {} needs as many",
                                    left, left == 1 ? "step" : "steps", accumulate));
  // However the run has ended, its last checkpoint is of where it is.
  if (!options_.checkpoint.empty() && place() != saved) save();
  if (!failure_) failure_ = unsaved_;
  failure_ = first_of(ranks(), failure_);
  control_.stop = ends_run;
  if (!stopped && callbacks.on_end) callbacks.on_end();
  return !stopped;
}

}  // namespace halfstep
