// NPY, NumPy's format for one array: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <filesystem>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/formats/data_array.h>
#include <halfstep/formats/shared_bytes.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

/// Opens an NPY file of version 1 to 3, plain or gzip-compressed: either byte order, C or Fortran order, dtypes f2 f4
/// f8, i1 to i8, u1 to u8, b1. Throws Error if the file is missing, malformed, truncated or has another dtype.
DataArray open_npy(const std::filesystem::path& path);

/// The same from bytes; `name` is for errors.
DataArray parse_npy(const SharedBytes& bytes, const std::string& name);

/// The header of a version 1 file, padded so that the elements after it are 64-byte aligned.
/// Throws Error if NPY has no such dtype (bf16, the 8-bit floats, strings).
std::string npy_header(DType dtype, const Shape& shape);

/// Writes a file atomically, little-endian and in C order.
void write_npy(const std::filesystem::path& path, const Tensor& tensor);

}  // namespace halfstep
