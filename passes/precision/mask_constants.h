// Constants such as -1e9 that say "not this one": where they can be clamped without changing anything.
#pragma once

#include <vector>

#include "passes/precision/choose_precision.h"

namespace halfstep {

/// Finds constants beyond the range of a half type all of whose ways lead, through data movement and sums, to operators
/// that only pick the largest or smallest (Softmax, ArgMax, MaxPool, …) or to bounds (Clip, Min, Max). Infinities are
/// numbers of half types, too: they are left as they are.
class MaskConstants {
 public:
  MaskConstants(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values, DType half);

  /// The value is such a constant, or computed from one on its way.
  bool is_mask(ValueId value) const { return on_the_way_[value]; }

  /// The node lies on the way of a mask that is added to something, or multiplied with what is not known. Beside -1e9
  /// in f32 scores vanish, so that a row that is masked as a whole is uniform. Beside the largest number of a half type
  /// they would not.
  bool must_stay_full(std::size_t node) const { return full_[node]; }

  /// Marks a constant that overflows, wherever it leads.
  void saturate(ValueId value);

  /// For each value the magnitude it is to be clamped to: of masks on whose way a half node lies. 0 for the others.
  /// Masks get half of the largest number, or less where several of them are added up, so that adding scores does not
  /// overflow.
  ValueMap<double> limits(const std::vector<bool>& node_is_half) const;

 private:
  struct Reader {
    std::size_t node, operand;
  };
  struct Mask {
    ValueId value;
    bool only_bounds;
    std::vector<std::size_t> nodes;  // that it reaches
    std::vector<ValueId> way;        // the values it goes through
  };
  bool follow(Mask& mask) const;
  bool meets_others(const Mask& mask) const;
  void count_sums();

  const std::vector<PrecisionNode>& nodes_;
  const ValueMap<PrecisionValue>& values_;
  const DType half_;
  ValueMap<std::vector<Reader>> readers_;
  ValueMap<bool> on_the_way_;
  std::vector<bool> full_;  // per node
  ValueMap<double> times_;  // how many masks a value may be the sum of
  std::vector<Mask> masks_;
  std::vector<ValueId> saturated_;
};

}  // namespace halfstep
