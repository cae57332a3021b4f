// Dependencies between folders point one way: what a file includes is held against the table in DESIGN.md.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/paths.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using Folders = std::map<std::string, std::set<std::string>>;

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::set<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) found.insert((*at)[1]);
  return found;
}

/// The rows `| `folder/` | what it is responsible for | may use |`.
Folders allowed_by_design() {
  const std::string design = text_of(test::source_dir() / "DESIGN.md");
  static const std::regex row(R"(\n\| `([\w/]+)/` \|[^|\n]*\|([^|\n]*)\|)"), name("`([\\w/]+)`");
  Folders allowed;
  for (std::sregex_iterator at(design.begin(), design.end(), row), end; at != end; ++at)
    allowed[(*at)[1]] = matches((*at)[2], name);
  return allowed;
}

/// Public headers belong to the folder that they are named by: include/halfstep/graph/ is a part of graph/.
std::string without_prefix(std::string path) {
  for (const std::string prefix : {"include/halfstep/", "halfstep/"})
    if (path.starts_with(prefix)) return path.substr(prefix.size());
  return path;
}

/// The row that `path`, relative to the sources, belongs to: the longest one that leads it.
std::string folder_of(const std::string& path, const Folders& folders) {
  std::string found;
  for (const auto& [folder, _] : folders)
    if (path.starts_with(folder + "/") && folder.size() > found.size()) found = folder;
  return found;
}

bool is_source(const fs::path& file) {
  static const std::set<std::string> endings = {".h", ".cpp", ".cu", ".cuh"};
  return endings.contains(file.extension().string());
}

TEST(Includes, FollowTheTableOfDesign) {
  static const std::regex include("#include (?:\"|<halfstep/)([^\">]+)[\">]");
  const Folders allowed = allowed_by_design();
  ASSERT_GE(allowed.size(), 10U);
  std::size_t seen = 0;
  for (const auto& [folder, _] : allowed) ASSERT_TRUE(fs::is_directory(test::source_dir() / folder)) << folder;
  std::set<fs::path> roots{test::source_dir() / "include"};
  for (const auto& [folder, _] : allowed) roots.insert(test::source_dir() / folder);
  for (const fs::path& root : roots)
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      const std::string path = entry.path().lexically_relative(test::source_dir()).generic_string();
      const std::string folder = folder_of(without_prefix(path), allowed);
      if (!is_source(entry.path()) || folder.empty()) continue;
      ++seen;
      for (const std::string& included : matches(text_of(entry.path()), include)) {
        const std::string used = folder_of(included, allowed);
        EXPECT_TRUE(used == folder || allowed.at(folder).contains(used))
            << path << " includes " << included << ", which DESIGN.md does not allow " << folder;
      }
    }
  EXPECT_GT(seen, 300U);
}

TEST(Includes, HaveNoCircles) {
  Folders open = allowed_by_design();
  for (const auto& [folder, uses] : open)
    for (const std::string& used : uses) ASSERT_TRUE(open.contains(used)) << folder << " may use " << used;
  // Takes away what uses nothing that is left, until nothing goes.
  while (std::erase_if(open, [&](const auto& row) {
    return std::none_of(row.second.begin(), row.second.end(), [&](const auto& used) { return open.contains(used); });
  })) {
  }
  EXPECT_THAT(open, ::testing::IsEmpty());
}

}  // namespace
}  // namespace halfstep
