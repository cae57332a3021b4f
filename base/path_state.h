// Whether a path exists, or why this is unknown.
#pragma once

#include <filesystem>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// The path exists, through symbolic links.
bool is_there(const std::filesystem::path& path);

/// Why `is_there` is false: "nothing at PATH", or the system's message, such as "PATH: Permission denied" for a folder
/// that may not be searched.
std::string why_not_there(const std::filesystem::path& path);

}  // namespace halfstep
