// Parts of a tensor that Slice takes: element begin + i * step along each axis, i less than the part's extent.
#pragma once

#include <cstdint>
#include <span>

#include <halfstep/graph/shape.h>

namespace halfstep::ops {

/// Whether all elements of the part are elements of `whole`. All have as many axes as it; steps are not 0.
inline bool lies_within(const Shape& whole, std::span<const std::int64_t> begin, std::span<const std::int64_t> extents,
                        std::span<const std::int64_t> steps) {
  for (std::size_t axis = 0; axis < whole.rank(); ++axis) {
    if (extents[axis] == 0) continue;
    const std::int64_t first = begin[axis], step = steps[axis];
    if (first < 0 || first >= whole[axis]) return false;
    const std::int64_t steps_left = step > 0 ? (whole[axis] - 1 - first) / step : -(first / step);
    if (extents[axis] - 1 > steps_left) return false;
  }
  return true;
}

/// Whether Slice's starts have their axes (none: the first ones) and steps (none: 1) in a tensor of this rank.
inline bool are_slice_operands(std::size_t rank, std::span<const std::int64_t> starts,
                               std::span<const std::int64_t> axes, std::span<const std::int64_t> steps) {
  const auto fits = [&](std::span<const std::int64_t> each) { return each.empty() || each.size() == starts.size(); };
  return starts.size() <= rank && fits(axes) && fits(steps);
}

}  // namespace halfstep::ops
