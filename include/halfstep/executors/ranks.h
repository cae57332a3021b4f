// An executor as part of a group of ranks.
#pragma once

#include <memory>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// The type of this library's executors, and of plug-ins that are built as a core::Backend.
class RankedExecutor : public Executor {
 public:
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) final {
    return compile(graph, store, nullptr);
  }
  /// The same for a program whose collective operators reduce over the ranks. Running it is collective.
  virtual std::unique_ptr<Program> compile(const Graph& graph, StateStore& store,
                                           const std::shared_ptr<Communicator>& ranks) = 0;
};

/// `executor` with all its programs as part of the group. It must outlive the result. Throws Error(input) if it does
/// not support ranks.
std::unique_ptr<Executor> on_ranks(Executor& executor, std::shared_ptr<Communicator> ranks);

}  // namespace halfstep
