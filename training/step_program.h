// A compiled training step or evaluation, with its inputs and outputs by name.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/batch_loader.h"
#include "executors/executor.h"

namespace halfstep {

class StepProgram {
 public:
  /// `graph` is from one of pipelines.h: its inputs are the `data_inputs` that take a batch, among or behind them at
  /// `labels_at` the labels where the loss has any, and in a training step the learning rate and whether to update.
  StepProgram(const Graph& graph, Executor& executor, StateStore& store, std::size_t data_inputs,
              std::optional<std::size_t> labels_at);

  /// One run on this batch, whose tensors have the shapes of the inputs.
  void run(const Batch& batch, float learning_rate, bool update);

  float scalar(std::ptrdiff_t output) const;
  float loss() const { return scalar(0); }
  float grad_norm() const { return scalar(norm_); }
  /// Of this step; only with loss scaling.
  float loss_scale() const { return scalar(scale_); }
  bool grads_finite() const { return *program_->output(static_cast<std::size_t>(finite_)).data<bool>(); }
  /// The model's output that the loss was computed from.
  Tensor prediction() const { return program_->output(1); }
  bool has_prediction() const { return has_prediction_; }
  /// Gradient norms by parameter, of the last run.
  const std::vector<std::pair<std::string, float>>& parameter_norms();
  const Plan& plan() const { return program_->plan(); }
  /// The time of each entry of the plan in seconds, over runs on the batch of the last `run`; see
  /// Program::time_entries.
  std::vector<double> time_entries(int times) { return program_->time_entries(times); }

 private:
  std::unique_ptr<Program> program_;
  std::vector<Tensor> x_;
  Tensor y_, learning_rate_, update_;
  std::ptrdiff_t norm_ = -1, finite_ = -1, scale_ = -1;
  bool has_prediction_ = false;
  std::vector<std::ptrdiff_t> norm_outputs_;
  std::vector<std::pair<std::string, float>> norms_;
};

/// The name of the first node, in order, whose result is not finite when `graph` runs on this batch with these states;
/// for telling a user where training went wrong. Runs on the reference executor.
std::string first_non_finite_node(const Graph& graph, const StateStore& states, const Batch& batch,
                                  std::optional<std::size_t> labels_at);

}  // namespace halfstep
