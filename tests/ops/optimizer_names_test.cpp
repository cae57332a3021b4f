// What an optimizer is called is known to its row, and to the kernels that an executor has for it.
#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/paths.h"
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

bool may_name_them(const std::string& path) {
  const char* places[] = {"ops/optimizers/",                   // the rows
                          "include/halfstep/ops/optimizers/",  // examples in comments
                          "executors/onednn/kernels/",         // kernels, and the tables of them
                          "executors/onednn/simd/",
                          "executors/onednn/kernel_table.cpp",
                          "executors/cudnn/kernels/",
                          "executors/cudnn/kernel_table",
                          "executors/cudnn/optimizer.cpp"};
  return std::ranges::any_of(places, [&](const char* place) { return path.starts_with(place); });
}

bool is_source(const fs::path& path) {
  const std::array extensions = {".h", ".cpp", ".cu", ".cuh"};
  return std::ranges::find(extensions, path.extension()) != extensions.end();
}

/// The words of a text in lower case; "adam_step" has two.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text)
    if (std::isalnum(static_cast<unsigned char>(c)))
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (!words.back().empty())
      words.emplace_back();
  return words;
}

TEST(Optimizers, AreNamedByTheirRowsAndKernelsOnly) {
  std::vector<std::string> names;
  for (const OptimizerDef& row : optimizers())
    for (const std::string_view name : {row.name, row.op}) names.push_back(words_of(std::string(name))[0]);
  std::vector<std::string> found;
  std::size_t files = 0;
  for (const char* folder : {"base", "cli", "conversion", "data", "distributed", "executors", "formats", "graph",
                             "include", "onnx_io", "ops", "passes", "session", "training"})
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(test::source_dir() / folder)) {
      const std::string path = fs::relative(entry.path(), test::source_dir()).generic_string();
      if (!is_source(entry.path()) || may_name_them(path)) continue;
      ++files;
      std::ifstream stream(entry.path());
      const std::string text{std::istreambuf_iterator<char>(stream), {}};
      for (const std::string& word : words_of(text))
        if (std::ranges::find(names, word) != names.end()) found.push_back(path + ": " + word);
    }
  EXPECT_GT(files, 100u);
  EXPECT_THAT(found, testing::IsEmpty());
}

}  // namespace
}  // namespace halfstep
