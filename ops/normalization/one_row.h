// Scale and bias of normalizations over the last axes.
#pragma once

#include <cstddef>

#include <halfstep/graph/shape.h>

namespace halfstep::ops {

/// Whether broadcasting `operand` to `x` takes a row of as many elements as the axes from `axis` on have, and the same
/// one wherever the axes before it point.
inline bool is_one_row(const Shape& operand, const Shape& x, std::size_t axis) {
  if (operand.rank() > x.rank()) return false;
  const std::size_t missing = x.rank() - operand.rank();
  for (std::size_t i = 0; i < x.rank(); ++i) {
    const std::int64_t extent = i < missing ? 1 : operand[i - missing];
    if (extent != (i < axis ? 1 : x[i])) return false;
  }
  return true;
}

}  // namespace halfstep::ops
