#include "training/loss_mean.h"

#include <algorithm>
#include <limits>

#include "training/over_ranks.h"

namespace halfstep {

LossMean::LossMean(const Task& task) : task_(task), terms_(task.terms.size()), weights_(terms_.size()) {}

void LossMean::add(const StepProgram& program, const Batch& batch) {
  task_.weigh(batch, weights_);
  add(program, weights_);
}

void LossMean::add(const StepProgram& program, std::span<const double> weights) {
  if (terms_.size() == 1) return terms_[0].add(program.loss(), weights[0]);
  for (std::size_t i = 0; i < terms_.size(); ++i) terms_[i].add(program.term(i), weights[i]);
}

bool LossMean::is_empty() const {
  return std::ranges::all_of(terms_, [](const RunningMean& mean) { return mean.weight() == 0; });
}

double LossMean::value() const {
  if (is_empty()) return std::numeric_limits<double>::quiet_NaN();
  if (terms_.size() == 1) return terms_[0].value();
  double sum = 0;
  for (std::size_t i = 0; i < terms_.size(); ++i)
    if (terms_[i].weight() > 0) sum += task_.step.loss.terms[i].weight * terms_[i].value();
  return sum;
}

void LossMean::reset() {
  for (RunningMean& mean : terms_) mean.reset();
}

Tensor LossMean::state() const { return sums_of(terms_); }

bool LossMean::load_state(const Tensor& state) {
  if (state.dtype() != DType::f64 || state.shape() != Shape{static_cast<std::int64_t>(terms_.size()), 2}) return false;
  reset();
  add_sums(terms_, state);
  return true;
}

}  // namespace halfstep
