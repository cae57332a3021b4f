#include "formats/image_folder.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "formats/csv_labels.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/tensor.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kEndings{".jpg", ".jpeg", ".png"};
constexpr std::string_view kTrain = "train";
constexpr std::array<std::string_view, 4> kHeldOut{"val", "valid", "validation", "test"};  // the first existing one

bool is_hidden(const fs::path& path) { return path.filename().native().starts_with('.'); }

bool is_picture(const fs::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::find(kEndings.begin(), kEndings.end(), ending) != kEndings.end();
}

/// The folders in a folder, by name.
std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> folders;
  std::error_code error, none;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (!is_hidden(at->path()) && at->is_directory(none)) folders.push_back(at->path());
  if (error) throw_input_error("a readable folder", folder.string() + ": " + error.message(), "check its permissions");
  std::sort(folders.begin(), folders.end());
  return folders;
}

/// The images below a folder, by path; counts other files.
std::vector<fs::path> pictures_in(const fs::path& folder, std::int64_t& others) {
  std::vector<fs::path> pictures;
  std::error_code error, none;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (is_hidden(at->path())) {
      at.disable_recursion_pending();
      continue;
    }
    if (!at->is_regular_file(none)) continue;
    if (is_picture(at->path()))
      pictures.push_back(at->path());
    else
      ++others;
  }
  if (error) throw_input_error("a readable folder", folder.string() + ": " + error.message(), "check its permissions");
  std::sort(pictures.begin(), pictures.end());
  return pictures;
}

bool is_held_out(const std::string& name) {
  return std::find(kHeldOut.begin(), kHeldOut.end(), name) != kHeldOut.end();
}

/// The folder with the class folders.
fs::path part_of(const fs::path& folder, Split split, std::vector<std::string>& notices) {
  bool train = false, others = false;
  for (const fs::path& one : folders_in(folder)) {
    const std::string name = one.filename().string();
    train = train || name == kTrain;
    others = others || (name != kTrain && !is_held_out(name));
  }
  if (!train || others) return folder;
  if (split == Split::train) return folder / kTrain;
  std::vector<std::string_view> there;
  for (const std::string_view name : kHeldOut)
    if (std::error_code none; fs::is_directory(folder / name, none)) there.push_back(name);
  if (there.empty())
    throw_input_error(fmt::format("a folder {} beside train", fmt::join(kHeldOut, ", ")), "none in " + folder.string(),
                      "name the folder of the classes itself");
  if (there.size() > 1)
    notices.push_back(fmt::format("of {} the part {} is taken: name {} to take another", folder.string(), there.front(),
                                  (folder / there[1]).string()));
  return folder / there.front();
}

/// The class number of each folder. Throws Error for a folder that is not one of the given classes.
std::int64_t class_of(const fs::path& folder, const std::vector<std::string>& classes) {
  const auto at = std::find(classes.begin(), classes.end(), folder.filename().string());
  if (at == classes.end())
    throw_input_error(fmt::format("folders of the classes {}", fmt::join(classes, ", ")), folder.string(),
                      "rename the folder, or name its class in --classes");
  return at - classes.begin();
}

constexpr const char* kNothingDrawn = "none";

std::string describe_augmentation(const ImageOptions& options) {
  if (options.random_crop && options.random_flip) return "crop,flip";
  return options.random_crop ? "crop" : options.random_flip ? "flip" : kNothingDrawn;
}

}  // namespace

bool is_image_folder(const fs::path& folder) {
  std::error_code error, none;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (at->path().filename().native().find("ubyte") != std::string::npos) return false;
  constexpr int kMost = 100000;
  int seen = 0;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end && seen < kMost; at.increment(error), ++seen) {
    if (is_hidden(at->path()))
      at.disable_recursion_pending();
    else if (at.depth() > 0 && is_picture(at->path()) && at->is_regular_file(none))
      return true;
  }
  return false;
}

NamedArrays open_image_folder(const fs::path& folder, const DataOptions& options) {
  NamedArrays arrays{.names = {"x", "y"}, .open = {}};
  const fs::path part = part_of(folder, options.split, arrays.notices);
  const std::vector<fs::path> folders = folders_in(part);
  arrays.classes = options.table.classes;
  if (arrays.classes.empty()) {
    for (const fs::path& one : folders) arrays.classes.push_back(one.filename().string());
    arrays.notices.push_back(describe_numbering(part.string(), arrays.classes));
  }
  std::vector<fs::path> paths;
  std::vector<std::int64_t> labels;
  std::int64_t others = 0;
  for (const fs::path& one : folders) {
    const std::vector<fs::path> pictures = pictures_in(one, others);
    if (pictures.empty()) arrays.notices.push_back(fmt::format("the folder {} has no image", one.string()));
    labels.insert(labels.end(), pictures.size(), class_of(one, arrays.classes));
    paths.insert(paths.end(), pictures.begin(), pictures.end());
  }
  if (others > 0)
    arrays.notices.push_back(fmt::format("{}: {} {} left out whose names do not end in {}", part.string(), others,
                                         others == 1 ? "file is" : "files are", fmt::join(kEndings, ", ")));
  const std::string augmented = describe_augmentation(options.images);
  if (augmented != kNothingDrawn)
    arrays.notices.push_back(
        fmt::format("random transforms are applied in each epoch ({}): --augment none disables them", augmented));
  arrays.settings = {{"--augment", augmented},
                     {"--image-size", fmt::format("{},{}", options.images.height, options.images.width)},
                     {"--image-crop", fmt::format("{}", options.images.crop)}};
  Tensor y(DType::i64, {static_cast<std::int64_t>(labels.size())});
  std::copy(labels.begin(), labels.end(), y.data<std::int64_t>());
  // Other threads compute meanwhile.
  const unsigned threads = std::max(1U, std::thread::hardware_concurrency() / 2);
  const DataArray x_rows = image_rows(part.string(), std::move(paths), options.images, threads);
  const DataArray y_rows = DataArray::of(y, "the classes of " + part.string());
  arrays.open = [x_rows, y_rows](const std::string& name) { return name == "x" ? x_rows : y_rows; };
  return arrays;
}

std::vector<fs::path> files_of_image_folder(const fs::path& folder) {
  std::int64_t others = 0;
  return pictures_in(folder, others);
}

}  // namespace halfstep
