// A folder of pictures: in a folder for each class, whose name is the class.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <halfstep/formats/data_array.h>
#include <halfstep/formats/data_format.h>

namespace halfstep {

/// Whether pictures lie in folders of the folder, and no IDX files beside them.
bool is_image_folder(const std::filesystem::path& folder);

/// Arrays x and y of its pictures, in the order of their paths. Where its folders are called train and val, valid,
/// validation or test, and not otherwise, they are looked into by `options.split`. Files and folders whose names start
/// with a dot are passed over. A picture is read when its row is: only then is it found to be damaged.
NamedArrays open_image_folder(const std::filesystem::path& folder, const DataOptions& options);

/// Its pictures, of all splits.
std::vector<std::filesystem::path> files_of_image_folder(const std::filesystem::path& folder);

/// Rows of the pictures at `paths`, made by up to `threads` threads.
DataArray image_rows(std::string name, std::vector<std::filesystem::path> paths, const ImageOptions& options,
                     unsigned threads);

}  // namespace halfstep
