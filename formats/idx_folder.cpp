#include "formats/idx_folder.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <map>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "formats/idx.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kImagesHint =
    "JPEG and PNG images are read from a folder for each class (FOLDER/cat/1.jpg); save others as arrays (numpy.save, "
    "rows of [height, width, channels]) and name them as X.npy,Y.npy";
constexpr std::string_view kPictures[] = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"};

/// Counts of file extensions in a folder and one level below, for at most the first thousand files.
std::map<std::string, int> endings(const fs::path& folder) {
  constexpr int kMost = 1000;
  std::map<std::string, int> counts;
  std::error_code error;
  int seen = 0;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end && seen < kMost; at.increment(error)) {
    if (at.depth() >= 1) at.disable_recursion_pending();
    std::error_code ignored;
    if (!at->is_regular_file(ignored)) continue;
    ++seen;
    std::string ending = at->path().extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
    ++counts[ending];
  }
  return counts;
}

bool holds_pictures(const fs::path& folder) {
  for (const auto& [ending, count] : endings(folder))
    if (std::find(std::begin(kPictures), std::end(kPictures), ending) != std::end(kPictures)) return true;
  return false;
}

/// ", but *.png".
std::string extensions(const fs::path& folder) {
  std::string most;
  int largest = 0;
  for (const auto& [ending, count] : endings(folder))
    if (count > largest && !ending.empty()) {
      most = ending;
      largest = count;
    }
  return most.empty() ? "" : fmt::format(", but files *{}", most);
}

/// The only file of a folder whose name starts with `prefix` and contains `content`; a plain one is preferred to a
/// compressed one.
fs::path find_idx(const fs::path& folder, std::string_view prefix, std::string_view content) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && name.find(content) != std::string::npos) found.push_back(entry->path());
  }
  if (error) throw_input_error("a readable folder", folder.string() + ": " + error.message(), "check its permissions");
  if (found.empty())
    throw_input_error(
        fmt::format("IDX files {}{}*", prefix, content), "none in " + folder.string() + extensions(folder),
        holds_pictures(folder) ? kImagesHint
                               : "copy the four files of the data set there, as they are or compressed with gzip");
  std::sort(found.begin(), found.end());
  const auto plain = std::find_if(found.begin(), found.end(), [](const fs::path& p) { return p.extension() != ".gz"; });
  return plain != found.end() ? *plain : found.front();
}

}  // namespace

IdxPair open_idx_folder(const fs::path& folder, std::string_view prefix) {
  return {open_idx(find_idx(folder, prefix, "images")), open_idx(find_idx(folder, prefix, "labels"))};
}

std::vector<fs::path> files_of_idx_folder(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code none;
  for (fs::directory_iterator entry(folder, none), end; !none && entry != end; entry.increment(none)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kIdxTrainPrefix) || name.starts_with(kIdxTestPrefix)) files.push_back(entry->path());
  }
  return files;
}

}  // namespace halfstep
