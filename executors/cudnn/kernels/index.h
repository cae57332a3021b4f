// From an element's number in the result to its place in an operand.
#pragma once

#include <cstdint>

#include "executors/cudnn/kernels/scalar.h"

namespace halfstep::cudnn {

/// Row-major extents of the space walked over, and an operand's elements to step over along each axis (0 where it is
/// broadcast). `collapse` of indexing.h makes them with as few axes as possible.
struct Index {
  static constexpr int kMaxRank = 8;

  int rank = 0;
  std::int64_t extents[kMaxRank] = {};
  std::int64_t steps[kMaxRank] = {};

  HALFSTEP_HD std::int64_t operator()(std::int64_t i) const {
    std::int64_t offset = 0;
    for (int axis = rank - 1; axis > 0; --axis) {
      offset += i % extents[axis] * steps[axis];
      i /= extents[axis];
    }
    return rank == 0 ? 0 : offset + i * steps[0];
  }
};

}  // namespace halfstep::cudnn
