// A folder of images with a subfolder for each class, named like the class.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <halfstep/formats/data_array.h>
#include <halfstep/formats/data_format.h>

namespace halfstep {

/// Whether the folder has subfolders with images, and no IDX files besides them.
bool is_image_folder(const std::filesystem::path& folder);

/// Arrays x and y of its images, in the order of their paths. Only if its subfolders are named train and val, valid,
/// validation or test, `options.split` selects one of them. Ignores files and folders whose names start with a dot. An
/// image is decoded when its row is read, so damaged images are only detected then.
NamedArrays open_image_folder(const std::filesystem::path& folder, const DataOptions& options);

/// Its images, of all splits.
std::vector<std::filesystem::path> files_of_image_folder(const std::filesystem::path& folder);

/// Rows of the images at `paths`, decoded by up to `threads` threads.
DataArray image_rows(std::string name, std::vector<std::filesystem::path> paths, const ImageOptions& options,
                     unsigned threads);

}  // namespace halfstep
