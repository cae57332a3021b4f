// Results that are kept in files of a folder, each under all that it depends on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace halfstep::cudnn {

/// What was written for the key; empty where nothing was, or the file is damaged.
std::vector<char> read_entry(const std::filesystem::path& folder, const std::string& key);

/// Writes it whole or not at all. Whether the folder takes it; one that does not is no error.
bool write_entry(const std::filesystem::path& folder, const std::string& key, const std::vector<char>& value);

/// HALFSTEP_KERNEL_CACHE, or halfstep/kernels in the user's cache folder; empty where there is none.
std::filesystem::path kernel_cache_folder();

}  // namespace halfstep::cudnn
