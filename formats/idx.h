// IDX, the format of the original MNIST files: http://yann.lecun.com/exdb/mnist
#pragma once

#include <filesystem>

#include <halfstep/formats/data_array.h>

namespace halfstep {

/// A plain or gzip-compressed IDX file (big-endian; u8, i8, i16, i32, f32, f64). Throws Error if the file is missing,
/// is not IDX, or is shorter or longer than specified in its header.
DataArray open_idx(const std::filesystem::path& path);

}  // namespace halfstep
