// Executors by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// The availability of an executor.
struct ExecutorStatus {
  std::string name;  ///< "reference", "onednn", "cudnn", or a plug-in's
  bool available = false;
  std::string reason;  ///< why not, as a sentence; empty if available
  Capabilities capabilities;
  std::vector<DeviceStatus> devices = {};  ///< among which ExecutorOptions::device chooses, also if not available
};

/// Creates `reference`, `onednn`, a plug-in by its name (`cudnn` is one, see plugin.h), or `auto`: the executor with
/// the best score on this machine. Plug-ins in folders of HALFSTEP_PLUGIN_PATH are loaded for any name, those next to
/// the library only for their own name or `auto`, and of these `cudnn` for `auto` only where there may be a GPU. Models
/// with a plug-in's operators must be loaded afterwards.
///
/// A broken plug-in does not affect others. `notice` receives a sentence about it, that of `missing_plugin_folders`,
/// another if auto skips a GPU of this machine, those of `without_effect`, and, once per process, one on the waiting
/// threads of OpenMP if their wait policy is not set. Throws Error naming the available executors, or if there is no
/// device of that name: then auto takes no other.
std::unique_ptr<Executor> make_executor(std::string_view name, const ExecutorOptions& options,
                                        std::string* notice = nullptr);

/// Which options have no effect on an executor, as sentences with the reason; empty if all have.
std::string without_effect(const ExecutorOptions& options, const Executor& executor);

/// Loads a plug-in library: a file, or a name that the system's loader finds. Throws Error if it is not a plug-in, has
/// another version, or finds no device.
std::unique_ptr<Executor> load_executor(const std::string& library, const ExecutorOptions& options);

/// An executor of a plug-in, `name` or else the file `library`, for a device that is described and need not be present:
/// its programs have a plan and cannot run. Throws Error if there is no such plug-in, or it rejects the description.
std::unique_ptr<Executor> make_described_executor(std::string_view name, const std::string& library,
                                                  const std::string& description, const ExecutorOptions& options = {});

/// A sentence that names the folders of HALFSTEP_PLUGIN_PATH that are not there; empty if there are none.
std::string missing_plugin_folders();

/// The names that `make_executor` accepts, except auto. Loads no plug-in.
std::vector<std::string> executor_names();

/// The status of all executors: those without a score first, then by decreasing score.
std::vector<ExecutorStatus> executor_statuses();

}  // namespace halfstep
