// Small valid files of every format of data.
#pragma once

#include <string>
#include <vector>

namespace halfstep::fuzz {

std::vector<std::string> safetensors_seeds();
std::vector<std::string> npy_seeds();
std::vector<std::string> npz_seeds();
std::vector<std::string> csv_seeds();
std::vector<std::string> idx_seeds();
std::vector<std::string> image_seeds();

}  // namespace halfstep::fuzz
