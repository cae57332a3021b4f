#include "base/path_state.h"

#include <cerrno>
#include <system_error>

#include <sys/stat.h>

namespace halfstep {
namespace {

/// 0, or the error of accessing the path.
int look_at(const std::filesystem::path& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 ? 0 : errno;
}

}  // namespace

bool is_there(const std::filesystem::path& path) { return look_at(path) == 0; }

std::string why_not_there(const std::filesystem::path& path) {
  const int code = look_at(path);
  if (code == 0 || code == ENOENT || code == ENOTDIR) return "nothing at " + path.string();
  return path.string() + ": " + std::generic_category().message(code);
}

}  // namespace halfstep
