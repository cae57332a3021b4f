// Plug-ins with executors: what is in them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/plugin_library.h"
#include <halfstep/executors/plugin.h>

namespace halfstep {

/// Why there is no executor.
struct Refusal {
  std::string reason;      ///< a sentence; empty: there is one
  bool is_broken = false;  ///< the plug-in is at fault, not the machine
};

/// A plug-in that is loaded; it stays so until the process ends, since programs may hold its kernels. No function
/// throws.
class Plugin {
 public:
  /// `library` is a path, or a name for the system's loader. Its operators are added to the table.
  static std::optional<Plugin> load(const std::string& library, Refusal& refusal);

  /// 0 when it is not for this machine.
  int score(Refusal& refusal) const;
  /// None for a plug-in that has one.
  std::vector<DeviceStatus> devices() const;
  std::unique_ptr<Executor> make(const ExecutorOptions& options, Refusal& refusal) const;
  std::unique_ptr<Executor> make_described(const std::string& description, const ExecutorOptions& options,
                                           Refusal& refusal) const;

 private:
  std::string library_;
  decltype(&halfstep_executor) executor_ = nullptr;
  decltype(&halfstep_described_executor) described_executor_ = nullptr;  ///< nullptr: there is none
  decltype(&halfstep_score) score_ = nullptr;                            ///< nullptr: there is none
  decltype(&halfstep_devices) devices_ = nullptr;                        ///< nullptr: there is none
};

}  // namespace halfstep
