// Communicators by name.
#pragma once

#include <chrono>
#include <memory>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

struct CommunicatorOptions {
  /// How long a rank waits for the others before it takes them for lost.
  std::chrono::milliseconds limit = std::chrono::minutes(5);
};

/// Of the processes that a launcher has started. `mpi` or `nccl` (which halfstep does not
/// bring): that of the plug-in `libhalfstep-NAME.so`, found as
/// executors are (see executors/plugin.h). `auto`: mpi where the launcher has started more than one, else none; nothing
/// is loaded then. `off`: none. One rank alone needs none either.
///
/// Throws Error(input) for another name, without a launcher, and where the plug-in is missing or broken. Collective,
/// and to be called once in a process.
std::shared_ptr<Communicator> open_communicator(std::string_view name, const CommunicatorOptions& options = {});

}  // namespace halfstep
