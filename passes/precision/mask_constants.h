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

  /// Finds masks that a half node sees along a value that is f32 and that f32 nodes read for themselves, too: clamped
  /// for the one, it would change what the others compute. Their nodes are `is_shared` from now on, and have to stay in
  /// f32. Whether there are more of them than before.
  bool find_shared(const std::vector<bool>& node_is_half);
  bool is_shared(std::size_t node) const { return shared_[node]; }

  /// Marks a constant that overflows, wherever it leads.
  void saturate(ValueId value);

  /// For each value the magnitude it is to be clamped to: of masks on whose way a half node lies. 0 for the others.
  /// Masks get half of the largest number, or less where several of them are added up, so that adding scores does not
  /// overflow.
  ValueMap<double> limits(const std::vector<bool>& node_is_half) const;

  /// Whether a value's limit holds for it in f32, too: where what reads it in f32 leads to a half node. Other f32
  /// nodes that read it compute with the elements as they are.
  ValueMap<bool> clamped_in_f32(const std::vector<bool>& node_is_half) const;

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
  std::vector<bool> lead_to_half(const std::vector<bool>& node_is_half) const;
  bool takes_f32(const Reader& reader, const std::vector<bool>& node_is_half) const;
  void count_sums();

  const std::vector<PrecisionNode>& nodes_;
  const ValueMap<PrecisionValue>& values_;
  const DType half_;
  ValueMap<std::vector<Reader>> readers_;
  ValueMap<bool> on_the_way_;
  std::vector<bool> full_, shared_;  // per node
  ValueMap<double> times_;           // how many masks a value may be the sum of
  std::vector<Mask> masks_;
  std::vector<ValueId> saturated_;
};

/// Finite elements clamped to magnitudes up to `limit`; the tensor itself where that is 0.
Tensor clamped(const Tensor& tensor, double limit);

}  // namespace halfstep
