// Communicators by name.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

struct CommunicatorOptions {
  /// How long a rank waits in one call for others that are there, and compute something else.
  std::chrono::milliseconds limit = std::chrono::minutes(5);
  /// How long nothing may be heard of a rank. Each answers by a thread of its own, whatever it computes; one that does
  /// not is lost, and calls of all others throw. 0: that is not watched.
  std::chrono::milliseconds heartbeat = std::chrono::seconds(20);
  /// Called by that thread where a rank is lost and this one computes on for 5 s: tells it, and returns the exit code
  /// with which all are ended. Unset: the next call throws, whenever it comes.
  std::function<int(const SharedError&)> on_loss = {};
};

/// The ranges of limits, in seconds.
inline constexpr double kShortestLimit = 0.001, kLongestLimit = 1e9, kLongestHeartbeat = 1e6;

/// Those of `limit` and `heartbeat` seconds. Throws Error(input) for numbers out of range.
CommunicatorOptions with_limits(double limit, double heartbeat);

/// Of the processes that a launcher has started. `mpi` or `nccl`: that of the plug-in `libhalfstep-NAME.so`, found as
/// executors are (see executors/plugin.h). `auto`: mpi where the launcher has started more than one, else none; nothing
/// is loaded then. `off`: none. One rank alone needs none either.
///
/// Throws Error(input) for another name, without a launcher, where the plug-in is missing or broken, and on every rank
/// where limits differ between ranks. Collective, and to be called once in a process.
std::shared_ptr<Communicator> open_communicator(std::string_view name, const CommunicatorOptions& options = {});

}  // namespace halfstep
