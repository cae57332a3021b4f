#include "cli/output_paths.h"

#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/atomic_file.h"
#include <halfstep/base/error.h>

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

/// One path for all names of a file; paths that cannot be resolved are kept.
fs::path identity_of(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return path;
  const fs::path result = fs::weakly_canonical(absolute, error);
  return error ? absolute.lexically_normal() : result;
}

/// Device and inode number of the file at a path, through symbolic links.
std::optional<std::pair<dev_t, ino_t>> number_of(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return std::pair(status.st_dev, status.st_ino);
}

/// The files in use: their purposes, by path and by inode number.
class TakenFiles {
 public:
  /// The purpose that the file already has, if any.
  const std::string* find(const fs::path& path) const {
    if (const auto at = by_path_.find(identity_of(path)); at != by_path_.end()) return &at->second;
    const auto number = number_of(path);
    const auto at = number ? by_number_.find(*number) : by_number_.end();
    return at == by_number_.end() ? nullptr : &at->second;
  }
  void add(const fs::path& path, const std::string& use) {
    by_path_.emplace(identity_of(path), use);
    if (const auto number = number_of(path)) by_number_.emplace(*number, use);
  }

 private:
  std::map<fs::path, std::string> by_path_;
  std::map<std::pair<dev_t, ino_t>, std::string> by_number_;
};

}  // namespace

void check_distinct(const std::vector<OutputPath>& outputs, const std::vector<fs::path>& inputs) {
  TakenFiles taken;
  for (const fs::path& input : inputs) taken.add(input, "which is read");
  for (const OutputPath& output : outputs) {
    if (output.path.empty()) continue;
    const fs::path file = through_links(output.path);
    if (const std::string* use = taken.find(file))
      throw_input_error("a separate file for every output", fmt::format("{} {}, {}", output.flag, output.path, *use),
                        "give another name");
    taken.add(file, fmt::format("already that of {}", output.flag));
  }
}

}  // namespace halfstep::cli
