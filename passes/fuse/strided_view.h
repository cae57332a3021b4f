// Where the elements of a value lie in another value that they are only moved from or to.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

struct Stride {
  std::int64_t extent = 1, step = 0;
  bool operator==(const Stride&) const = default;
};
/// One axis as steps through memory, the outermost first: their extents multiply to the axis's.
using StridedAxis = std::vector<Stride>;

/// Axes of a value that is nothing but elements of `base`, which lies row-major.
struct StridedView {
  ValueId base = kNoValue;
  std::int64_t offset = 0;
  std::vector<StridedAxis> axes;

  /// A value as it is.
  static StridedView of(const Graph& graph, ValueId value);

  /// Makes the operand of the node that gives the base the base: through Reshape, Transpose, Split, Slice, Expand and
  /// Gather of one index. False where that cannot be said in strides; then nothing has changed.
  bool step_back(const Graph& graph);
  /// Makes the result of the one node that reads the base the base: through Reshape and Transpose.
  bool step_forward(const Graph& graph);

 private:
  bool move(const std::vector<std::int64_t>& extents, const std::vector<std::int64_t>& steps, std::int64_t start);
};

/// Splits the axes, all of one extent in total, at the same places: result[i] are the strides of axes[i], merged where
/// that is possible in all of them. Empty where they do not divide each other.
std::vector<StridedAxis> split_alike(std::vector<StridedAxis> axes);

}  // namespace halfstep
