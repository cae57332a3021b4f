// Files that a command writes: each a file of its own, and none that it reads.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace halfstep::cli {

/// A file that a command writes, and the flag that names it. An empty path stands for none.
struct OutputPath {
  const char* flag;
  std::string path;
};

/// Throws Error(input) where two of `outputs` are one file, or where one is among the files `inputs`: by their paths,
/// or as names of one file (hard links).
void check_distinct(const std::vector<OutputPath>& outputs, const std::vector<std::filesystem::path>& inputs);

}  // namespace halfstep::cli
