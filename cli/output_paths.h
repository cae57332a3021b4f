// Output files of a command: they must differ from each other and from its inputs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace halfstep::cli {

/// An output file of a command, and the flag that names it. An empty path means none.
struct OutputPath {
  const char* flag;
  std::string path;
};

/// Throws Error(input) if two of `outputs` are the same file, or one is among the files `inputs`: by their paths, or as
/// hard links to one file.
void check_distinct(const std::vector<OutputPath>& outputs, const std::vector<std::filesystem::path>& inputs);

}  // namespace halfstep::cli
