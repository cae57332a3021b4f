// Gradients that wait for an update.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "training/state_access.h"
#include "training/step_program.h"

namespace halfstep {

/// States of sums by the parameter whose gradients they are.
using SumStates = std::map<std::string, std::string>;

/// Which gradients wait, of how many batches, and the programs that update by them.
class GradientSums {
 public:
  explicit GradientSums(TrainedStates& states) : states_(states) {}

  /// Batches whose gradients wait.
  std::int64_t waiting() const { return waiting_; }
  const SumStates& states() const { return sums_; }

  /// To be called before a program adds to these. Sums that did not wait start at zero.
  void expect(const SumStates& sums);
  void count_batch() { ++waiting_; }
  /// Those of a state that was loaded, which has them.
  void set(SumStates sums, std::int64_t waiting);
  void forget() { waiting_ = 0; }

  /// The program that updates by these sums, and the half copies that there are by now; `make` gives it where there is
  /// none yet.
  StepProgram& update_program(const std::function<std::unique_ptr<StepProgram>(const SumStates&)>& make);

  /// A sum of gradients that no update waits for.
  bool is_idle(const std::string& state) const;
  void know(const SumStates& sums);

 private:
  TrainedStates& states_;
  SumStates sums_;          // that wait, or waited last
  HalfCopies half_copies_;  // of the update of before
  std::map<std::pair<SumStates, HalfCopies>, std::unique_ptr<StepProgram>> updates_;
  std::unique_ptr<StepProgram>* update_ = nullptr;  // that of sums_; null: to be looked up
  std::set<std::string> known_;                     // all that programs have
  std::int64_t waiting_ = 0;
};

}  // namespace halfstep
