// Constants such as -1e9 and -inf that say "not this one": where they can be clamped without changing anything.
#pragma once

#include <vector>

#include "passes/choose_precision.h"

namespace halfstep {

/// Finds constants beyond the range of a half type all of whose ways lead, through data movement and sums, to operators
/// that only pick the largest or smallest (Softmax, ArgMax, MaxPool, …) or to bounds (Clip, Min, Max).
class MaskConstants {
 public:
  MaskConstants(const std::vector<PrecisionNode>& nodes, const std::vector<PrecisionValue>& values, DType half);

  /// The value is such a constant, or computed from one on its way.
  bool is_mask(int value) const { return on_the_way_[static_cast<std::size_t>(value)]; }

  /// Marks a constant that overflows, wherever it leads.
  void saturate(int value);

  /// For each value the magnitude it is to be clamped to: of masks on whose way a half node lies. 0 for the others.
  /// Masks get half of the largest number, so that adding scores, or a second mask, does not overflow.
  std::vector<double> limits(const std::vector<bool>& node_is_half) const;

 private:
  struct Mask {
    int value;
    bool only_bounds;
    std::vector<int> nodes;  // on the way
  };
  bool follow(int value, Mask& mask, std::vector<int>& way) const;

  const std::vector<PrecisionNode>& nodes_;
  const std::vector<PrecisionValue>& values_;
  const DType half_;
  std::vector<std::vector<std::pair<int, int>>> readers_;  // node, operand
  std::vector<bool> on_the_way_;
  std::vector<Mask> masks_;
  std::vector<int> saturated_;
};

}  // namespace halfstep
