#include "base/new_folder.h"

#include <system_error>

#include <halfstep/base/error.h>

namespace halfstep {

namespace fs = std::filesystem;

void make_folder(const fs::path& folder, const std::string& required) {
  std::error_code code, ignored;
  fs::create_directories(folder, code);
  if (fs::is_directory(folder, ignored)) return;
  const std::string what = required + ": " + folder.string();
  for (fs::path part = folder; part.has_relative_path(); part = part.parent_path())
    if (fs::is_symlink(part, ignored) && !fs::exists(part, ignored))
      throw_input_error(
          what, part.string() + ", a link to " + fs::read_symlink(part, ignored).string() + ", where nothing is",
          "create the folder that the link names, or name another");
  if (code == std::errc::not_a_directory || code == std::errc::file_exists || !code)
    throw_input_error(what, "a file in its place", "name another folder");
  throw_failure(what, code.message(), "check the path and its permissions");
}

}  // namespace halfstep
