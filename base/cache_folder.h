// Where programs keep what they could compute again.
#pragma once

#include <filesystem>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// $XDG_CACHE_HOME/halfstep, or ~/.cache/halfstep; empty where neither variable is set. It may not exist yet.
std::filesystem::path cache_folder();

}  // namespace halfstep
