// Executors by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// What was found when an executor was asked for.
struct ExecutorStatus {
  std::string name;  ///< "reference", "onednn", "cudnn", or a plug-in's
  bool available = false;
  std::string reason;  ///< why not, as a sentence; empty when available
  Capabilities capabilities;
};

/// `reference`, `onednn`, a plug-in by its name (`cudnn` is one, see plugin.h), or `auto`: the one that has the best
/// score on this machine. Plug-ins in folders of HALFSTEP_PLUGIN_PATH are loaded whatever the name, those beside the
/// library where the name is theirs or `auto`. A model with a plug-in's operators is to be loaded afterwards.
///
/// A plug-in that is broken stops nothing else: `notice` receives a sentence, another when auto passes over a GPU that
/// this machine has, one where `fp32_math` has no effect, and once in a process one on OpenMP's waiting threads where
/// nobody has said how they are to wait.
/// Throws Error naming the executors there are.
std::unique_ptr<Executor> make_executor(std::string_view name, const ExecutorOptions& options,
                                        std::string* notice = nullptr);

/// Loads a plug-in library: a file, or a name that the system's loader finds; throws Error when it is no plug-in, is of
/// another version, or finds no device.
std::unique_ptr<Executor> load_executor(const std::string& library, const ExecutorOptions& options);

/// The names that `make_executor` takes, but for auto; no plug-in is loaded for it.
std::vector<std::string> executor_names();

/// All executors, with what was found: the best score first, and before them those that have none.
std::vector<ExecutorStatus> executor_statuses();

}  // namespace halfstep
