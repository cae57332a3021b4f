// Folders created before it is known whether the call is valid.
#pragma once

#include <filesystem>
#include <vector>

namespace halfstep::cli {

/// On destruction, removes the added folders that did not exist before and are empty, so that a rejected call leaves
/// none behind.
class NewFolders {
 public:
  NewFolders() = default;
  NewFolders(const NewFolders&) = delete;
  NewFolders& operator=(const NewFolders&) = delete;
  ~NewFolders();

  /// A folder that may be created, with its parents. Empty: none.
  void expect(const std::filesystem::path& folder);

 private:
  std::vector<std::filesystem::path> missing_;
};

}  // namespace halfstep::cli
