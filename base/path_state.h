// What is at a path, or why that cannot be told.
#pragma once

#include <filesystem>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Something is at the path, through symbolic links.
bool is_there(const std::filesystem::path& path);

/// Why `is_there` is false: "nothing at PATH", or what the system says, such as "PATH: Permission denied" where a
/// folder may not be looked into.
std::string why_not_there(const std::filesystem::path& path);

}  // namespace halfstep
