#include "base/cache_folder.h"

#include <cstdlib>

namespace halfstep {

std::filesystem::path cache_folder() {
  const auto variable = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value ? value : "";
  };
  if (const auto caches = variable("XDG_CACHE_HOME"); !caches.empty()) return caches / "halfstep";
  if (const auto home = variable("HOME"); !home.empty()) return home / ".cache" / "halfstep";
  return {};
}

}  // namespace halfstep
