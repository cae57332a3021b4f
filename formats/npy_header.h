// What precedes the elements of an NPY file.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <halfstep/formats/data_array.h>

namespace halfstep {

struct NpyHeader {
  DType dtype = DType::undefined;
  Shape shape;
  StorageOrder order = {};
  std::size_t size = 0;  ///< bytes before the elements
};

/// `text` is the file, or its beginning with the whole header; `name` is for errors. Throws Error as `parse_npy` for
/// what the header alone shows.
NpyHeader read_npy_header(std::string_view text, const std::string& name);

}  // namespace halfstep
