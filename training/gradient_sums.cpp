#include "training/gradient_sums.h"

#include <algorithm>
#include <utility>

namespace halfstep {

void GradientSums::expect(const SumStates& sums) {
  if (waiting_ == 0) {  // a flag tells the program that it is the first
    if (sums_ == sums) return;
    sums_ = sums;
    update_ = nullptr;
    return;
  }
  for (const auto& [parameter, state] : sums) {
    if (!sums_.emplace(parameter, state).second) continue;
    const Tensor now = states_.read(state);  // of before the last update
    states_.write(state, Tensor(now.dtype(), now.shape()));
    update_ = nullptr;
  }
}

void GradientSums::set(SumStates sums, std::int64_t waiting) {
  sums_ = std::move(sums);
  waiting_ = waiting;
  update_ = nullptr;
}

StepProgram& GradientSums::update_program(const std::function<std::unique_ptr<StepProgram>(const SumStates&)>& make) {
  if (!update_ || half_copies_ != states_.half_copies()) {
    half_copies_ = states_.half_copies();
    update_ = &updates_[{sums_, half_copies_}];
  }
  if (!*update_) *update_ = make(sums_);
  return **update_;
}

bool GradientSums::is_idle(const std::string& state) const {
  if (!known_.contains(state)) return false;
  return waiting_ == 0 || std::ranges::none_of(sums_, [&](const auto& sum) { return sum.second == state; });
}

void GradientSums::know(const SumStates& sums) {
  for (const auto& [parameter, state] : sums) known_.insert(state);
}

}  // namespace halfstep
