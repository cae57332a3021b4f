// Plug-ins as files: where they lie, and loading them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>

namespace halfstep {

/// Told by the name: `mpi` and `nccl` are communicators, all others executors.
enum class PluginKind : std::uint8_t { executor, communicator };

/// A file that is called as a plug-in is; nothing has looked into it.
struct PluginFile {
  std::string name;  ///< NAME of libhalfstep-NAME.so
  std::filesystem::path path;
  bool is_named_by_user = false;  ///< it lies in a folder of HALFSTEP_PLUGIN_PATH
};

/// Those in the folders of HALFSTEP_PLUGIN_PATH (separated by colons), then those beside the halfstep library, in each
/// folder by name. What cannot be read has none.
std::vector<PluginFile> find_plugins(PluginKind kind);
/// A sentence that names the folders of HALFSTEP_PLUGIN_PATH that are none; empty if all are.
std::string plugin_folders_that_are_none();
/// "libhalfstep-NAME.so" gives NAME, anything else nothing.
std::string_view plugin_name(std::string_view file);

/// A library that is loaded, and stays so until the process ends; nullptr, and in `reason` a sentence why. `library` is
/// a path, or a name for the system's loader.
void* open_plugin(const std::string& library, std::string& reason);
/// nullptr where it has no such function.
void* find_in_plugin(void* library, const char* function);

}  // namespace halfstep
