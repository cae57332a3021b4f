#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include <halfstep/training/running_auc.h>

namespace halfstep {

void RunningAuc::Scores::insert(double score) {
  runs_.push_back({score});
  ++count_;
  while (runs_.size() > 1 && runs_[runs_.size() - 2].size() <= 2 * runs_.back().size()) {
    const std::vector<double> a = std::move(runs_[runs_.size() - 2]), b = std::move(runs_.back());
    runs_.resize(runs_.size() - 1);
    runs_.back().clear();
    runs_.back().reserve(a.size() + b.size());
    std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(runs_.back()));
  }
}

std::int64_t RunningAuc::Scores::below_and_not_above(double score) const {
  std::int64_t sum = 0;
  for (const std::vector<double>& run : runs_) {
    const auto [first, last] = std::equal_range(run.begin(), run.end(), score);
    sum += (first - run.begin()) + (last - run.begin());
  }
  return sum;
}

std::vector<double> RunningAuc::Scores::all() const {
  std::vector<double> scores;
  scores.reserve(static_cast<std::size_t>(count_));
  for (const std::vector<double>& run : runs_) scores.insert(scores.end(), run.begin(), run.end());
  return scores;
}

void RunningAuc::add(double score, bool label) {
  is_nan_ = is_nan_ || std::isnan(score);
  if (is_nan_) return;
  half_wins_ += label ? zeros_.below_and_not_above(score) : 2 * ones_.count() - ones_.below_and_not_above(score);
  (label ? ones_ : zeros_).insert(score);
}

double RunningAuc::value() const {
  if (is_nan_ || zeros_.count() == 0 || ones_.count() == 0) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(half_wins_) / 2 / static_cast<double>(zeros_.count()) / static_cast<double>(ones_.count());
}

}  // namespace halfstep
