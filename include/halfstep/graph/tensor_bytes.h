// Sizes of tensors in bytes.
#pragma once

#include <cstddef>
#include <optional>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/graph/shape.h>

namespace HALFSTEP_API halfstep {

/// Size of a tensor's elements in bytes; packed elements are rounded up to whole bytes. 0 for undefined and string.
/// Nothing unless every extent is known and the size is below 2^63 bytes.
std::optional<std::size_t> known_bytes_of(DType dtype, const Shape& shape);

/// The same; throws Error where there is nothing.
std::size_t bytes_of(DType dtype, const Shape& shape);

}  // namespace halfstep
