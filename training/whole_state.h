// The states of a training step of which each rank has a part, as one: what a checkpoint has. Everything here is
// collective.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/graph/named_tensors.h>

namespace halfstep {

/// A state by its key in a checkpoint.
struct OwnedState {
  TensorInfo type;  ///< with the key as its name
  StateRole role = StateRole::parameter;
  int owner = 0;          ///< the first rank that has it
  int ranks = 1;          ///< how many have it
  std::string name = {};  ///< in this rank's store; empty where it has none
};

/// What all ranks have, by key, each once.
std::vector<OwnedState> states_of_ranks(Communicator& ranks, const std::vector<OwnedState>& own);

/// Rank 0 reads states, of others too, one at a time; the others give it what it asks for meanwhile.
class StateReading {
 public:
  /// All must outlive it.
  StateReading(Communicator& ranks, const std::vector<OwnedState>& states, const StateStore& store)
      : ranks_(ranks), states_(states), store_(store) {}

  /// On rank 0: `use` may read any of them in any order, and throw. What keeps it from those of others is a
  /// SharedError, and what `use` throws by itself none.
  void lead(const std::function<void(const LazyTensors&)>& use);
  /// On the others: returns when rank 0 has done.
  void follow();

 private:
  /// That of this number, on every rank, where it takes its place in `to` on all but the owner.
  void share(std::size_t i, Tensor& to);

  Communicator& ranks_;
  const std::vector<OwnedState>& states_;
  const StateStore& store_;
};

}  // namespace halfstep
