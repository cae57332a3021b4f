#include "cli/output_paths.h"

#include <map>
#include <system_error>

#include <fmt/format.h>

#include "graph/error.h"

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

/// One path for all that name a file; what cannot be looked at keeps its own.
fs::path identity_of(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return path;
  const fs::path result = fs::weakly_canonical(absolute, error);
  return error ? absolute.lexically_normal() : result;
}

}  // namespace

void check_distinct(const std::vector<OutputPath>& outputs, const std::vector<fs::path>& inputs) {
  std::map<fs::path, std::string> taken;
  for (const fs::path& input : inputs) taken.emplace(identity_of(input), "which is read");
  for (const OutputPath& output : outputs) {
    if (output.path.empty()) continue;
    const auto [known, is_new] =
        taken.emplace(identity_of(output.path), fmt::format("already that of {}", output.flag));
    if (!is_new)
      throw_input_error("a file of its own for every output",
                        fmt::format("{} {}, {}", output.flag, output.path, known->second), "give another name");
  }
}

}  // namespace halfstep::cli
