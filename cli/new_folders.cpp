#include "cli/new_folders.h"

#include <algorithm>
#include <functional>
#include <system_error>

#include <unistd.h>

namespace halfstep::cli {

namespace fs = std::filesystem;

void NewFolders::expect(const fs::path& folder) {
  if (folder.empty()) return;
  std::error_code error;
  fs::path path = fs::absolute(folder, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "folder/"
  for (; !error && path.has_relative_path() && fs::symlink_status(path, error).type() == fs::file_type::not_found;
       path = path.parent_path()) {
    missing_.push_back(path);
    error.clear();  // a missing path is an error, too
  }
}

NewFolders::~NewFolders() {
  // Deeper folders have longer paths. rmdir only removes empty folders.
  std::ranges::sort(missing_, std::greater<>(), [](const fs::path& path) { return path.native().size(); });
  for (const fs::path& path : missing_) ::rmdir(path.c_str());
}

}  // namespace halfstep::cli
