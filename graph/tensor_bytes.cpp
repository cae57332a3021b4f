#include <algorithm>

#include <halfstep/base/error.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {

std::optional<std::size_t> known_bytes_of(DType dtype, const Shape& shape) {
  if (!shape.is_static()) return std::nullopt;
  if (std::ranges::find(shape, 0) != shape.end()) return 0;  // whatever the other extents are
  std::int64_t count = 1, bytes = 0;
  for (const std::int64_t extent : shape)
    if (__builtin_mul_overflow(count, extent, &count)) return std::nullopt;
  if (__builtin_mul_overflow(count, static_cast<std::int64_t>(bits_of(dtype) / 8), &bytes)) return std::nullopt;
  return bytes_of(dtype, static_cast<std::size_t>(count));
}

std::size_t bytes_of(DType dtype, const Shape& shape) {
  const std::optional<std::size_t> bytes = known_bytes_of(dtype, shape);
  if (!bytes)
    throw_input_error("a tensor with every extent known, of less than 2^63 bytes", "shape " + shape.to_string(),
                      "check the model's shapes");
  return *bytes;
}

}  // namespace halfstep
