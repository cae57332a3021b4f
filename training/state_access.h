// The states of a training step by name, before and after there is a program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/passes.h>

namespace halfstep {

/// The types of half copies by parameter.
using HalfCopies = std::map<std::string, DType>;

/// A store, and what is to go into it once it has the states: those of an optimizer appear with the first program.
class TrainedStates {
 public:
  /// `trainable` has parameters as states; `model` tells which values are the source's.
  TrainedStates(const Graph& trainable, const Graph& model, Executor& executor);

  StateStore& store() { return *store_; }
  /// To be called for each graph that was compiled on the store. Throws Error(input) for what was loaded and does not
  /// fit.
  void bind(const Graph& graph);

  const std::vector<TensorInfo>& parameters() const { return parameters_; }
  /// Those that programs read.
  const HalfCopies& half_copies() const { return half_copies_; }
  NamedTensors parameter_values() const;
  void set_parameters(const NamedTensors& values);
  NamedTensors statistics() const;
  /// Gives all ranks those of rank 0. Collective.
  void share_statistics(Communicator& ranks);

  NamedTensors all() const;
  /// Of all that is kept: states, and initial values of parameters that are none yet.
  std::size_t bytes() const;
  /// Throws Error(input) for numbers that no step leaves.
  void check_numbers(const NamedTensors& values, bool has_loss_scale) const;
  /// Throws Error(input) unless all states that there are by now are given, or those of before the first program: the
  /// others start anew then. What rounded gradients lack (StateRole::residual) may be missing, or be there in vain.
  void load(NamedTensors values);

  Tensor read(const std::string& name) const;
  void write(const std::string& name, const Tensor& value);

  /// What those states are called, or are going to be.
  std::string loss_scale_name() const { return loss_scale_.empty() ? std::string(kLossScaleState) : loss_scale_; }
  std::string updates_name() const { return updates_.empty() ? std::string(kUpdatesState) : updates_; }

  /// Unset while there is none.
  std::optional<Tensor> loss_scale() const;
  bool set_loss_scale(float value);
  /// Applied so far.
  std::int64_t updates() const;

 private:
  const Graph& trainable_;
  std::unique_ptr<StateStore> store_;
  std::vector<TensorInfo> parameters_;
  std::vector<std::string> statistics_;  // by name in the source
  std::set<std::string> of_source_;
  HalfCopies half_copies_;
  NamedTensors waiting_;              // for a program that has them
  NamedTensors initial_;              // of states that are no parameters; of even ones one element
  bool whole_ = false;                // all states but sums of gradients are known
  std::string loss_scale_, updates_;  // names; empty while there is none
};

}  // namespace halfstep
