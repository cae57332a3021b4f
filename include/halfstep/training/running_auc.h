// Incremental area under the ROC curve.
#pragma once

#include <cstddef>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// The exact area: the fraction of pairs of a score with label 1 and a score with label 0 in which the first is larger;
/// ties count as half. The weight of a pair is the product of its weights. Keeps all scores. Adding a score takes
/// O(log² n), the value O(1).
class RunningAuc {
 public:
  /// Scores with weight 0 are ignored.
  void add(double score, bool label, double weight = 1);
  /// NaN if one of the labels did not occur, or a score was NaN.
  double value() const;
  void reset() { *this = RunningAuc(); }
  /// All scores of a label, in unspecified order.
  std::vector<double> scores(bool label) const;
  /// Their weights, in the same order; empty if all are 1.
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
