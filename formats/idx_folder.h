// A folder with the four IDX files of a data set, as for MNIST: `{train,t10k}-{images,labels}*`, plain or .gz.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include <halfstep/formats/data_array.h>

namespace halfstep {

inline constexpr std::string_view kIdxTrainPrefix = "train-", kIdxTestPrefix = "t10k-";

struct IdxPair {
  DataArray x, y;
};
/// Images and labels of the files whose names start with `prefix`; plain files are preferred to compressed ones. Throws
/// Error if a file is missing, with the contents of the folder, and as `open_idx`.
IdxPair open_idx_folder(const std::filesystem::path& folder, std::string_view prefix);

/// The files of both parts.
std::vector<std::filesystem::path> files_of_idx_folder(const std::filesystem::path& folder);

}  // namespace halfstep
