// Folders that a call makes before it is known whether it will go on.
#pragma once

#include <filesystem>
#include <vector>

namespace halfstep::cli {

/// Removes, when it goes, the folders that were not there when it was told of them and that are empty: a call that is
/// refused leaves none behind.
class NewFolders {
 public:
  NewFolders() = default;
  NewFolders(const NewFolders&) = delete;
  NewFolders& operator=(const NewFolders&) = delete;
  ~NewFolders();

  /// A folder that may be made, with those above it. Empty: none.
  void expect(const std::filesystem::path& folder);

 private:
  std::vector<std::filesystem::path> missing_;
};

}  // namespace halfstep::cli
