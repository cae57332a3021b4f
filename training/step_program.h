// A compiled training step, part of one, or evaluation, with its inputs and outputs by what they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/batch_loader.h"
#include <halfstep/executors/executor.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/executors/overlapped_program.h>
#include <halfstep/executors/unread_inputs.h>
#include <halfstep/session/profile.h>

namespace halfstep {

/// What one run is given, of which a program takes what it has an input for. Tensors in the order of StepValues.
struct StepFeed {
  std::span<const Tensor> x, labels, sample_weights = {};
  float learning_rate = 0;
  bool update = true;
  float loss_weight = 1;
  bool first = true;
  std::span<const float> loss_shares = {};  ///< of each term; empty: all 1
};

class StepProgram {
 public:
  /// `graph` is from one of pipelines.h.
  StepProgram(const Graph& graph, Executor& executor, StateStore& store);

  /// One run on tensors of the shapes of the inputs.
  void run(const StepFeed& feed);
  /// The same. Where the device takes inputs ahead, the batch that comes next from `reader`, if that has it and it has
  /// as many rows, is copied there while this run goes on: by the next run, if it is on that batch.
  void run(const Batch& batch, float learning_rate, bool update, std::span<const float> loss_shares = {},
           BatchReader* reader = nullptr);
  /// What was copied ahead is of no batch that is to come.
  void forget_ahead() { given_.reset(); }

  /// A check sum of what is reduced over ranks, in its order: ranks whose programs have another one cannot go together.
  std::uint32_t order() const { return order_; }

  // Outputs of the last run, of a program that has them.
  float loss() const { return scalar(loss_.value()); }
  bool has_loss() const { return loss_.has_value(); }
  std::size_t terms() const { return terms_.size(); }
  float term(std::size_t i) const { return scalar(terms_[i]); }
  float grad_norm() const { return scalar(norm_.value()); }
  bool has_grad_norm() const { return norm_.has_value(); }
  /// Of this step; only with loss scaling.
  float loss_scale() const { return scalar(scale_.value()); }
  bool has_loss_scale() const { return scale_.has_value(); }
  bool grads_finite() const { return *program_->output(finite_.value()).data<bool>(); }
  /// The model's output that a term of the loss was computed from.
  Tensor prediction(std::size_t term = 0) const { return program_->output(predictions_[term]); }
  std::size_t predictions() const { return predictions_.size(); }
  /// The model's outputs, but for one that is the loss.
  std::size_t outputs() const { return outputs_.size(); }
  Tensor output(std::size_t i) const { return program_->output(outputs_[i]); }
  /// Gradient norms by parameter.
  const std::vector<std::pair<std::string, float>>& parameter_norms();
  const Plan& plan() const { return program_->plan(); }
  std::optional<MemoryUse> memory() const { return memory_of(*program_); }
  UnreadInputs unread() const { return unread_inputs(*program_); }
  /// Of runs on the batch of the last `run`, which was not copied ahead.
  Profile profile(Executor& executor, const ProfileOptions& options) {
    return halfstep::profile(*program_, executor, options);
  }

 private:
  /// An input that takes rows of a batch.
  struct Fed {
    std::size_t input;
    Tensor memory;
    bool is_ahead;  ///< it may be given ahead
  };

  /// All columns of a batch, each with its input.
  template <class F>
  void each_column(const StepFeed& feed, const F& f);
  void fill(const StepFeed& feed, bool is_given);
  void give_ahead(const Batch& batch);
  float scalar(std::size_t output) const;

  std::unique_ptr<Program> program_;
  std::uint32_t order_;
  OverlappedProgram* overlapped_;  // nullptr: it takes nothing ahead
  std::vector<Fed> x_, labels_, sample_weights_;
  std::optional<std::pair<const Batch*, Cursor>> given_;  // ahead
  Tensor learning_rate_, update_, loss_weight_, first_, loss_shares_;
  std::optional<std::size_t> loss_, norm_, finite_, scale_;  // outputs
  std::vector<std::size_t> terms_, predictions_, outputs_, norm_outputs_;
  std::vector<std::pair<std::string, float>> norms_;
};

/// The name of the first node, in order, whose result is not finite when `graph` runs on this batch with these states;
/// for telling a user where training went wrong. Runs on the reference executor.
std::string first_non_finite_node(const Graph& graph, const StateStore& states, const Batch& batch);

}  // namespace halfstep
