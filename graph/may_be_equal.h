// Comparison of shapes that are not known completely.
#pragma once

#include <algorithm>
#include <cstdint>

#include <halfstep/graph/shape.h>

namespace halfstep {

/// Whether two shapes could be the same: unknown ranks and extents fit any.
inline bool may_be_equal(const Shape& a, const Shape& b) {
  if (!a.is_ranked() || !b.is_ranked()) return true;
  return std::ranges::equal(
      a, b, [](std::int64_t m, std::int64_t n) { return m == n || m == Shape::kUnknown || n == Shape::kUnknown; });
}

}  // namespace halfstep
