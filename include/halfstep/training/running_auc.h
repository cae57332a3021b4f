// The area under the ROC curve of scores that come one by one.
#pragma once

#include <cstddef>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Exact: of pairs of a score of label 1 and one of label 0 the share of which the first is larger, equal ones counting
/// half. A pair counts as much as the product of its weights. Keeps all scores. A score costs O(log² n), the value
/// O(1).
class RunningAuc {
 public:
  /// What weighs 0 is not there.
  void add(double score, bool label, double weight = 1);
  /// NaN where a label did not occur, or a score was NaN.
  double value() const;
  void reset() { *this = RunningAuc(); }
  /// All of a label that were added, in no order.
  std::vector<double> scores(bool label) const;
  /// Their weights, in the same order; none where all are 1.
  std::vector<double> weights(bool label) const;
  bool is_nan() const { return is_nan_; }

 private:
  struct Score {
    double score, weight;
    double sum;  ///< of the weights up to this one in its run
  };

  /// Sorted runs, each more than twice as long as the next: insertion merges those that are not.
  class Scores {
   public:
    void insert(double score, double weight);
    /// The sum of all weights.
    double weight() const { return weight_; }
    /// The weights of those below `score` and of those not above it, summed: twice the former, but for equal ones.
    double below_and_not_above(double score) const;
    std::vector<double> all(double Score::*member) const;

   private:
    std::vector<std::vector<Score>> runs_;
    double weight_ = 0;
  };

  Scores zeros_, ones_;
  double half_wins_ = 0;  // twice the weight of each pair in order, and that of each of equal ones
  bool is_nan_ = false;
};

}  // namespace halfstep
