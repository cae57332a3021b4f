// A compiled training step or evaluation, with its inputs and outputs by what they are.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/batch_loader.h"
#include <halfstep/executors/executor.h>

namespace halfstep {

class StepProgram {
 public:
  /// `graph` is from one of pipelines.h and has a loss.
  StepProgram(const Graph& graph, Executor& executor, StateStore& store);

  /// One run on this batch, whose tensors have the shapes of the inputs.
  void run(const Batch& batch, float learning_rate, bool update);

  float loss() const { return scalar(loss_); }
  float grad_norm() const { return scalar(norm_.value()); }
  /// Of this step; only with loss scaling.
  float loss_scale() const { return scalar(scale_.value()); }
  bool grads_finite() const { return *program_->output(finite_.value()).data<bool>(); }
  /// The model's output that the loss was computed from.
  Tensor prediction() const { return program_->output(prediction_.value()); }
  bool has_prediction() const { return prediction_.has_value(); }
  /// Gradient norms by parameter, of the last run.
  const std::vector<std::pair<std::string, float>>& parameter_norms();
  const Plan& plan() const { return program_->plan(); }
  /// The time of each entry of the plan in seconds, over runs on the batch of the last `run`; see
  /// Program::time_entries.
  std::vector<double> time_entries(int times) { return program_->time_entries(times); }

 private:
  float scalar(std::size_t output) const;

  std::unique_ptr<Program> program_;
  std::vector<Tensor> x_;
  Tensor y_, learning_rate_, update_;
  std::size_t loss_;  // an output; so are those that follow
  std::optional<std::size_t> prediction_, norm_, finite_, scale_;
  std::vector<std::size_t> norm_outputs_;
  std::vector<std::pair<std::string, float>> norms_;
};

/// The name of the first node, in order, whose result is not finite when `graph` runs on this batch with these states;
/// for telling a user where training went wrong. Runs on the reference executor.
std::string first_non_finite_node(const Graph& graph, const StateStore& states, const Batch& batch);

}  // namespace halfstep
