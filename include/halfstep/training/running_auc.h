// The area under the ROC curve of scores that come one by one.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Exact: the share of pairs of a score of label 1 and one of label 0 of which the first is larger, equal ones counting
/// half. Keeps all scores. A score costs O(log² n), the value O(1).
class RunningAuc {
 public:
  void add(double score, bool label);
  /// NaN where a label did not occur, or a score was NaN.
  double value() const;
  void reset() { *this = RunningAuc(); }
  /// All of a label that were added, in no order.
  std::vector<double> scores(bool label) const { return (label ? ones_ : zeros_).all(); }
  bool is_nan() const { return is_nan_; }

 private:
  /// Sorted runs, each more than twice as long as the next: insertion merges those that are not.
  class Scores {
   public:
    void insert(double score);
    std::int64_t count() const { return count_; }
    /// Those below `score` and those not above it, summed: twice the former, but for equal ones.
    std::int64_t below_and_not_above(double score) const;
    std::vector<double> all() const;

   private:
    std::vector<std::vector<double>> runs_;
    std::int64_t count_ = 0;
  };

  Scores zeros_, ones_;
  std::int64_t half_wins_ = 0;  // 2 for each pair in order, 1 for each of equal ones
  bool is_nan_ = false;
};

}  // namespace halfstep
