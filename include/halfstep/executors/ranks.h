// An executor as part of a group of ranks.
#pragma once

#include <memory>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// What executors of this library are, and plug-ins whose parts are a core::Backend.
class RankedExecutor : public Executor {
 public:
  using Executor::compile;
  /// The same for a program whose collective operators reduce over the ranks. Running it is collective.
  virtual std::unique_ptr<Program> compile(const Graph& graph, StateStore& store,
                                           const std::shared_ptr<Communicator>& ranks) = 0;
};

/// `executor`, of which all programs are part of the group. It must outlive the result. Throws Error(input) where it
/// cannot.
std::unique_ptr<Executor> on_ranks(Executor& executor, std::shared_ptr<Communicator> ranks);

}  // namespace halfstep
