// Executors by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executors/executor.h"

namespace halfstep {

/// What was found when an executor was asked for.
struct ExecutorStatus {
  std::string name;  ///< "reference", "onednn", "cudnn"
  bool available = false;
  std::string reason;  ///< why not, as a sentence; empty when available
  Capabilities capabilities;
};

/// `reference`, `onednn`, `cudnn`, or `auto`: cudnn when its plug-in and a device are there, else onednn.
/// `notice` receives a sentence when auto passes over a GPU that this machine has. Throws Error naming the executors
/// there are.
std::unique_ptr<Executor> make_executor(std::string_view name, const ExecutorOptions& options,
                                        std::string* notice = nullptr);

/// Loads a plug-in library: a file, or a name that the system's loader finds; throws Error when it is no plug-in, is of
/// another version, or finds no device.
std::unique_ptr<Executor> load_executor(const std::string& library, const ExecutorOptions& options);

/// All executors, with what was found.
std::vector<ExecutorStatus> executor_statuses();

}  // namespace halfstep
