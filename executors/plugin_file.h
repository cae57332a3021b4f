// Plug-ins as files: where they lie, and what is in them.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/executors/plugin.h>

namespace halfstep {

/// A file that is called as a plug-in is; nothing has looked into it.
struct PluginFile {
  std::string name;  ///< NAME of libhalfstep-NAME.so
  std::filesystem::path path;
  bool is_named_by_user = false;  ///< it lies in a folder of HALFSTEP_PLUGIN_PATH
};

/// Those in the folders of HALFSTEP_PLUGIN_PATH (separated by colons), then those beside the halfstep library, in each
/// folder by name. What cannot be read has none.
std::vector<PluginFile> find_plugins();
/// "libhalfstep-NAME.so" gives NAME, anything else nothing.
std::string_view plugin_name(std::string_view file);

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
  std::unique_ptr<Executor> make(const ExecutorOptions& options, Refusal& refusal) const;

 private:
  std::string library_;
  decltype(&halfstep_executor) executor_ = nullptr;
  decltype(&halfstep_score) score_ = nullptr;  ///< nullptr: there is none
};

}  // namespace halfstep
