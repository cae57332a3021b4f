// What a Trainer holds.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/batch_reader.h"
#include "data/stream_reader.h"
#include "training/settings.h"
#include "training/step_program.h"
#include "training/task.h"
#include "training/whole_state.h"
#include <halfstep/base/error.h>
#include <halfstep/data/batch_stream.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/trainer.h>

namespace halfstep {

class Trainer::Impl {
 public:
  /// `stream`: null, or where batches come from, of which `data` is the first then.
  Impl(LoadedModel model, Executor& executor, const Dataset& data, TrainerOptions options,
       BatchStream* stream = nullptr);

  bool fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop);
  Evaluation evaluate(const Dataset& data);
  BesideStep beside_step();
  Profile profile(const ProfileOptions& options);
  LazyTensors parameters();
  void set_parameters(const NamedTensors& values);

  /// Compiled when it is first asked for. States take the layout of the first: that is the training step of full
  /// batches.
  StepProgram& program(Purpose purpose, std::int64_t rows);
  StepProgram& training_program() { return program(Purpose::training, task_.batch); }

  const std::optional<Error>& failure() const { return failure_; }
  const Task& task() const { return task_; }
  const std::string& precision_reason() const { return precision_reason_; }
  const std::vector<Metric>& metrics() const { return metrics_; }
  const Graph& first_graph() const { return first_graph_; }
  RunControl& control() { return control_; }
  const std::vector<std::vector<std::string>>& buckets() const { return task_.step.ranks.buckets; }
  bool is_first_rank() const { return task_.share.rank == 0; }

 private:
  /// Sets the task's precision, which is that of a checkpoint, or chosen, where it is left to `auto`. `alone`: the
  /// caller's executor.
  Graph first_lowered(Executor& alone);
  Graph lower(Purpose purpose, std::int64_t rows, const PassObserver& observer = {}) const {
    return prepared_.lower(purpose, task_.step_options(rows), executor_.capabilities(), observer);
  }
  /// Updates that may be skipped while the loss scale settles.
  std::int64_t backoffs() const { return task_.step.optimizer.loss_scale.backoffs(); }
  Settings settings() const {
    Settings all = settings_of(options_, task_, rows(), executor_.name());
    all.insert(data_.data.settings.begin(), data_.data.settings.end());
    all.insert(options_.settings.begin(), options_.settings.end());
    all["the model's attributes and constants"] = contents_;
    return all;
  }
  /// Of an epoch; 0 where that is not known.
  std::int64_t rows() const { return stream_ ? stream_->rows().value_or(0) : data_.data.rows(); }
  std::unique_ptr<BatchReader> reader(const Cursor& start);
  StreamOptions stream_options(const Cursor& start) const;
  /// The states of the training step that a checkpoint has, those of other ranks included; an evaluation has some of
  /// its own.
  const std::vector<OwnedState>& states() const { return states_; }
  std::vector<OwnedState> own_states() const;
  /// Calls `use` with all of them, on rank 0. Collective.
  void read_states(const std::function<void(const LazyTensors&)>& use) const;
  /// What gradients have lost by rounding on all ranks, by the name of the state. Collective.
  bool has_residuals() const { return ranks() && is_half(options_.gradient_dtype); }
  NamedTensors residuals() const;
  /// Deals that out.
  void set_residuals(const NamedTensors& sums);
  /// Lets go of all copies of parameters but the store's.
  void release_parameters();
  /// The updates applied so far: the optimizer counts them.
  std::int64_t updates() const;
  /// Loads the checkpoint, all but what is kept beside it.
  Checkpoint resume(const TrainerCallbacks& callbacks);
  /// `own`: what the trainer keeps itself, by name. On rank 0.
  void try_to_save(const LazyTensors& states, const TrainingState& place,
                   const std::map<std::string, NamedTensors>& own, const TrainerCallbacks& callbacks);
  template <class Read>
  bool reads(const Read& read, bool trained, const TrainerCallbacks& callbacks);
  /// For `updates` updates in vain. Collective.
  [[noreturn]] void diverged(std::int64_t updates, std::int64_t step, const Batch& batch) const;

  /// Throws Error(input) where ranks have different models, options or versions; has all of them make the same buckets.
  void agree(const Graph& model);
  /// The ranks, or null where the run is by itself.
  Communicator* ranks() const { return options_.ranks.get(); }

  std::unique_ptr<Executor> on_ranks_;  // the caller's executor, as a part of them
  Executor& executor_;
  TrainerOptions options_;
  std::string fingerprint_, contents_;
  std::set<std::string, std::less<>> source_names_;  // of values
  PreparedModel prepared_;
  Task task_;
  TaskData data_;
  std::vector<Metric> metrics_ = task_.metrics();
  BatchStream* stream_;
  std::unique_ptr<StateStore> store_;
  std::string precision_reason_;
  Graph first_graph_;
  std::vector<OwnedState> states_;
  std::map<std::pair<Purpose, std::int64_t>, std::unique_ptr<StepProgram>> programs_;
  std::optional<Error> failure_, unsaved_;  // of reading data; of the last checkpoint
  RunControl control_;
};

}  // namespace halfstep
