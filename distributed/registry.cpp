#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "base/plugin_library.h"
#include "distributed/gather.h"
#include "distributed/shared_errors.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/launcher.h>
#include <halfstep/distributed/plugin.h>
#include <halfstep/distributed/registry.h>

namespace halfstep {
namespace {

constexpr const char *kLimitFlag = "--distributed-timeout", *kHeartbeatFlag = "--heartbeat-timeout";

template <class Function>
Function find(void* library, const char* name) {
  return reinterpret_cast<Function>(find_in_plugin(library, name));
}

std::shared_ptr<Communicator> load(const PluginFile& file, const CommunicatorOptions& options, std::string& reason) {
  const std::string path = file.path.string();
  void* library = open_plugin(path, reason);
  if (!library) return nullptr;
  const auto abi = find<decltype(&halfstep_communicator_abi)>(library, "halfstep_communicator_abi");
  const auto make = find<decltype(&halfstep_communicator)>(library, "halfstep_communicator");
  if (!abi || !make) {
    reason = path + " has no function 'halfstep_communicator': it is no communicator";
  } else if (const int version = abi(); version != kCommunicatorAbi) {
    reason = fmt::format(
        "the plug-in {} was built for version {} of the communicator interface, and this halfstep has "
        "version {}: build both together",
        path, version, kCommunicatorAbi);
  } else {
    return std::shared_ptr<Communicator>(make(&options, &reason));
  }
  return nullptr;
}

std::chrono::milliseconds limit_of(std::string_view flag, double seconds, double lowest, double highest) {
  if (!(seconds >= lowest && seconds <= highest))
    throw_input_error(fmt::format("{} from {:g} to {:g}", flag, lowest, highest), fmt::format("{:g}", seconds), "");
  constexpr std::int64_t kLeast = 1;  // none would be no limit
  return std::chrono::milliseconds(seconds > 0 ? std::max(static_cast<std::int64_t>(seconds * 1e3), kLeast) : 0);
}

}  // namespace

CommunicatorOptions with_limits(double limit, double heartbeat) {
  return {.limit = limit_of(kLimitFlag, limit, kShortestLimit, kLongestLimit),
          .heartbeat = limit_of(kHeartbeatFlag, heartbeat, 0, kLongestHeartbeat)};
}

std::shared_ptr<Communicator> open_communicator(std::string_view name, const CommunicatorOptions& options) {
  if (name != "auto" && name != "off" && name != "mpi" && name != "nccl")
    throw_input_error("one of the communicators mpi, nccl, auto, off", fmt::format("'{}'", name), "");
  const std::optional<Launch> launch = find_launch();
  if (name == "off" || (name == "auto" && (!launch || launch->size == 1))) return nullptr;
  if (!launch)
    throw_input_error(fmt::format("a program that starts several ranks, for --distributed {}", name), "none",
                      "mpirun -n 4 halfstep train ...");
  if (launch->size == 1) return nullptr;
  if (!launch->starts_mpi && name != "nccl")
    throw_input_error(
        "ranks that were started by mpirun or srun, which find each other by MPI",
        fmt::format("{} (RANK={}, WORLD_SIZE={})", launch->launcher, launch->rank, launch->size),
        fmt::format("mpirun -n {} halfstep train ..., or each by itself: --distributed off", launch->size));
  const std::string_view wanted = name == "auto" ? "mpi" : name;
  std::string reason = fmt::format(
      "there is no libhalfstep-{}.so in a folder of HALFSTEP_PLUGIN_PATH or beside the halfstep library", wanted);
  if (const std::string missing = plugin_folders_that_are_none(); !missing.empty()) reason += "; " + missing;
  for (const PluginFile& file : find_plugins(PluginKind::communicator)) {
    if (file.name != wanted) continue;
    std::shared_ptr<Communicator> communicator = load(file, options, reason);
    if (!communicator) break;
    if (communicator->size() != launch->size)
      throw_input_error(fmt::format("the {} ranks that {} has started", launch->size, launch->launcher),
                        fmt::format("{} that find each other", communicator->size()),
                        "use the mpirun of the MPI library that halfstep was built with");
    require_same(*communicator,
                 {{kLimitFlag, seconds_text(options.limit)}, {kHeartbeatFlag, seconds_text(options.heartbeat)}});
    return communicator;
  }
  throw_input_error(
      fmt::format("the communicator {} to work on this machine", wanted), "none: " + reason,
      wanted == "nccl" ? "--distributed mpi needs no GPU" : "--distributed off has each rank train by itself");
}

}  // namespace halfstep
