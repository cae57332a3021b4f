// Communicators by name.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

struct CommunicatorOptions {
  /// Maximum time that a call waits for other ranks that are alive but compute something else.
  std::chrono::milliseconds limit = std::chrono::minutes(5);
  /// Maximum time without a heartbeat, which a separate thread of each rank sends, whatever the rank computes. A rank
  /// without one is lost, and calls of all others throw. 0: no limit.
  std::chrono::milliseconds heartbeat = std::chrono::seconds(20);
  /// Called by that thread if a rank is lost and this one has made no call for 5 s: reports the loss, and returns the
  /// exit code with which all ranks are ended. Unset: the next call throws.
  std::function<int(const SharedError&)> on_loss = {};
  /// Of the executor, see ExecutorOptions::device: the GPU of a communicator that has one.
  std::string device = {};
};

/// The ranges of limits, in seconds.
inline constexpr double kShortestLimit = 0.001, kLongestLimit = 1e9, kLongestHeartbeat = 1e6;

/// Options with these limits in seconds. Throws Error(input) for numbers out of range.
CommunicatorOptions with_limits(double limit, double heartbeat);

/// The communicator of the processes that a launcher has started. `mpi`, `nccl`: that of the plug-in
/// `libhalfstep-NAME.so`, found like executors (see executors/plugin.h). `auto`: mpi if there are several processes,
/// else nullptr without loading a plug-in. `off`: nullptr. nullptr also for a single rank.
///
/// Throws Error(input) for another name, without a launcher, if the plug-in is missing or broken, and on every rank if
/// limits differ between ranks. Collective; call it once per process.
std::shared_ptr<Communicator> open_communicator(std::string_view name, const CommunicatorOptions& options = {});

}  // namespace halfstep
