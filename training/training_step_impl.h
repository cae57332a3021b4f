// What a TrainingStep holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "training/batch_check.h"
#include "training/batch_fit.h"
#include "training/default_loss.h"
#include "training/gradient_sums.h"
#include "training/state_access.h"
#include "training/step_cache.h"
#include "training/step_program.h"
#include "training/step_ranks.h"
#include "training/term_weights.h"
#include <halfstep/executors/ranks.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/training_step.h>

namespace halfstep {

class TrainingStep::Impl {
 public:
  Impl(LoadedModel model, Executor& executor, const TrainingStepOptions& options);

  // Programs on batches (training_step_run.cpp).
  StepReport run(const NamedTensors& batch);
  StepReport forward_backward(const NamedTensors& batch, double weight);
  StepReport backward(const NamedTensors& inputs, const NamedTensors& gradients, double weight);
  StepReport update();
  StepReport evaluate(const NamedTensors& batch);
  NamedTensors outputs_for(Purpose purpose, const NamedTensors& inputs);
  NamedTensors outputs() const;
  const Plan& plan(const NamedTensors& batch);
  Profile profile(const NamedTensors& batch, const ProfileOptions& profile_options);

  // What the last batch says of the loss.
  std::vector<double> loss_weights();
  Metrics metrics(const std::optional<std::vector<Metric>>& wanted, std::size_t term) const;
  void measure(Metrics& metrics, const NamedTensors& batch, std::size_t term) const;

  // States (training_step_state.cpp).
  TrainedStates& states() { return states_; }
  void share_statistics();
  NamedTensors gradients() const;
  void set_gradients(const NamedTensors& values);
  void forget_gradients() { sums_.forget(); }
  NamedTensors state() const;
  void load_state(const NamedTensors& given);
  double learning_rate() const { return learning_rate_; }
  void set_learning_rate(double learning_rate);
  double loss_scale() const;
  void set_loss_scale(double value);
  std::int64_t updates() const { return updates_; }
  DType precision() const { return precision_; }
  const std::vector<std::string>& notices() const { return notices_; }
  void save(const std::filesystem::path& path, const SaveOptions& save) const;

 private:
  const TermReading& reading(std::size_t term) const;
  StepFeed feed() const;
  void agree_on_shares();
  StepReport report_of(const StepProgram& program) const;
  /// That of a program that updates.
  StepReport report_of_update(const StepProgram& program);
  void require_gradients(const char* what) const;
  void require_no_gradients(const char* what) const;
  /// Runs the latest program, which sums gradients. Others may have summed those of other parameters.
  StepReport add_gradients(double weight);
  std::unique_ptr<StepProgram> make_update(const SumStates& sums);
  /// Makes `fitted_` the batch, whose loss is known afterwards.
  void fit(const NamedTensors& batch);
  StepProgram& program(Purpose purpose, const NamedTensors& batch);
  /// The program for `fitted_`, which is the latest one afterwards.
  StepProgram& find(const StepKey& key, const LossOptions* loss);
  StepOptions step_options(const LossOptions* loss) const;
  /// Before the first program that trains: measures the precision that is left to `auto`. Collective then, unlike what
  /// computes outputs or a loss alone, which follows the rule until then.
  void settle_precision(const StepKey& key, const LossOptions* loss);
  void set_precision(DType precision);

  std::shared_ptr<const SourceModel> source_;
  Executor& alone_;                     // the caller's executor
  std::unique_ptr<Executor> on_ranks_;  // the same, as a part of them
  Executor& executor_;
  TrainingStepOptions options_;
  DType precision_;
  bool is_settled_;                   // the precision is
  std::optional<bool> loaded_scale_;  // whether the states have a loss scale, once some were loaded or planned
  PreparedModel prepared_;
  std::vector<TensorInfo> inputs_;
  TrainedStates states_;
  StepCache programs_;
  GradientSums sums_;
  std::optional<LossInputs> loss_inputs_;
  std::optional<BatchCheck> check_;  // set with them
  std::vector<TermReading> readings_;
  std::optional<TermWeights> weights_;  // set with the readings
  FittedBatch fitted_;
  CompiledStep* latest_ = nullptr;
  double learning_rate_ = 0;
  std::int64_t updates_ = 0;
  std::vector<std::string> notices_;
  std::optional<StepRanks> ranks_;  // set once the options are known to be right
};

}  // namespace halfstep
