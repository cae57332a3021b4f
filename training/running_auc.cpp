#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include <halfstep/training/running_auc.h>

namespace halfstep {

void RunningAuc::Scores::insert(double score, double weight) {
  runs_.push_back({{score, weight, weight}});
  weight_ += weight;
  while (runs_.size() > 1 && runs_[runs_.size() - 2].size() <= 2 * runs_.back().size()) {
    const std::vector<Score> a = std::move(runs_[runs_.size() - 2]), b = std::move(runs_.back());
    runs_.resize(runs_.size() - 1);
    runs_.back().clear();
    runs_.back().reserve(a.size() + b.size());
    std::ranges::merge(a, b, std::back_inserter(runs_.back()), {}, &Score::score, &Score::score);
  }
  double sum = 0;
  for (Score& one : runs_.back()) one.sum = sum += one.weight;
}

double RunningAuc::Scores::below_and_not_above(double score) const {
  double sum = 0;
  for (const std::vector<Score>& run : runs_) {
    const auto equal = std::ranges::equal_range(run, score, {}, &Score::score);
    for (const auto end : {equal.begin(), equal.end()}) sum += end == run.begin() ? 0 : std::prev(end)->sum;
  }
  return sum;
}

std::vector<double> RunningAuc::Scores::all(double Score::*member) const {
  std::vector<double> numbers;
  for (const std::vector<Score>& run : runs_)
    for (const Score& one : run) numbers.push_back(one.*member);
  return numbers;
}

std::vector<double> RunningAuc::scores(bool label) const { return (label ? ones_ : zeros_).all(&Score::score); }

std::vector<double> RunningAuc::weights(bool label) const {
  std::vector<double> weights = (label ? ones_ : zeros_).all(&Score::weight);
  if (std::ranges::count(weights, 1.0) == std::ssize(weights)) weights.clear();
  return weights;
}

void RunningAuc::add(double score, bool label, double weight) {
  if (weight == 0) return;
  is_nan_ = is_nan_ || std::isnan(score);
  if (is_nan_) return;
  half_wins_ +=
      weight * (label ? zeros_.below_and_not_above(score) : 2 * ones_.weight() - ones_.below_and_not_above(score));
  (label ? ones_ : zeros_).insert(score, weight);
}

double RunningAuc::value() const {
  if (is_nan_ || zeros_.weight() == 0 || ones_.weight() == 0) return std::numeric_limits<double>::quiet_NaN();
  return half_wins_ / 2 / zeros_.weight() / ones_.weight();
}

}  // namespace halfstep
