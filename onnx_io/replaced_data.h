// The files in which a model that is replaced kept its tensors. Internal to onnx_io.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace halfstep {

/// Follows the name of a model in those of its data files: NAME.data, NAME.data2, …
inline constexpr std::string_view kDataSuffix = ".data";
/// What every data file that halfstep writes ends in, behind the tensors. Others' are the user's: nobody removes them.
inline constexpr std::string_view kDataMark = "\nhalfstep: tensors of a model\n";

/// Of the data files of the model at `path`, those that are named as its own are; and of one that a killed process was
/// about to put there.
std::vector<std::filesystem::path> data_files_of(const std::filesystem::path& path);

/// Removes what killed processes left of data files, under the names that are taken in turn.
void sweep_data(const std::filesystem::path& path);

/// Removes those of the `replaced` files of a model that stood at `path` that are certain to be of no use: halfstep
/// wrote them, they are not `in_use`, and no other model in the folder, whatever its file is called, refers to them.
/// Where one stays because that is not certain, a line says so.
void remove_replaced(const std::vector<std::filesystem::path>& replaced, const std::filesystem::path& path,
                     const std::vector<std::filesystem::path>& in_use);

}  // namespace halfstep
