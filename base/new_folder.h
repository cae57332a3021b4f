// Folders that a program writes to.
#pragma once

#include <filesystem>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Creates the folder, and those above it, unless it is there. Throws Error(input) if something else is in its place,
/// Error(failure) if the system refuses; `required` says what it is for: "a folder for events".
void make_folder(const std::filesystem::path& folder, const std::string& required);

}  // namespace halfstep
