// Learning-rate schedules: values that map a number of updates to a learning rate.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace halfstep {

// In the formulas, t is the number of updates applied so far (see StepResult), from the end of warm-up. A skipped
// update does not count, as in PyTorch where scheduler.step() follows an optimizer.step() that was not skipped.

/// lr = base
struct ConstantRate {
  bool operator==(const ConstantRate&) const = default;
};

/// lr = base · decay_rate^(t / decay_steps), the exponent rounded down when `staircase`. Keras ExponentialDecay.
struct ExponentialDecay {
  std::int64_t decay_steps = 1;
  double decay_rate = 1;
  bool staircase = false;
  bool operator==(const ExponentialDecay&) const = default;
};

/// lr = base · gamma^⌊t / step_size⌋. PyTorch StepLR.
struct StepDecay {
  std::int64_t step_size = 1;
  double gamma = 0.1;
  bool operator==(const StepDecay&) const = default;
};

/// lr = base · gamma^(number of milestones ≤ t). PyTorch MultiStepLR.
struct MilestoneDecay {
  std::vector<std::int64_t> milestones;  ///< strictly increasing
  double gamma = 0.1;
  bool operator==(const MilestoneDecay&) const = default;
};

/// lr = base · ((1 − alpha) · ½(1 + cos(π · min(t, decay_steps) / decay_steps)) + alpha). Keras CosineDecay; PyTorch
/// CosineAnnealingLR with eta_min = alpha · base, up to its first T_max = decay_steps steps.
struct CosineDecay {
  std::int64_t decay_steps = 1;
  double alpha = 0;
  bool operator==(const CosineDecay&) const = default;
};

/// lr = base + (end_lr − base) · min(t, decay_steps) / decay_steps. Keras PolynomialDecay of power 1; PyTorch LinearLR.
struct LinearDecay {
  std::int64_t decay_steps = 1;
  double end_lr = 0;
  bool operator==(const LinearDecay&) const = default;
};

using Decay = std::variant<ConstantRate, ExponentialDecay, StepDecay, MilestoneDecay, CosineDecay, LinearDecay>;

/// A decay, after an optional linear warm-up.
struct Schedule {
  double base_lr = 1e-3;
  Decay decay = ConstantRate{};
  /// While updates < warmup_steps: lr = base · (warmup_start + (1 − warmup_start) · updates / warmup_steps). The decay
  /// starts counting when warm-up ends, as in Keras CosineDecay and in PyTorch SequentialLR(LinearLR, …).
  std::int64_t warmup_steps = 0;
  double warmup_start = 0;  ///< a fraction of base_lr

  /// Learning rate of the update that follows `updates` applied ones. Computed in double, rounded once.
  float at(std::int64_t updates) const;

  /// The text that `parse_schedule(text, base_lr)` turns into this schedule again.
  std::string to_string() const;

  bool operator==(const Schedule&) const = default;
};

/// Reads `NAME[:KEY=VALUE,…]`:
///   constant
///   exponential:decay_steps=N,decay_rate=R[,staircase=true|false]
///   step:step_size=N[,gamma=G]   or   step:milestones=N/N/…[,gamma=G]      (gamma 0.1)
///   cosine:decay_steps=N[,alpha=A]                                        (alpha 0)
///   linear:decay_steps=N[,end_lr=LR]                                      (end_lr 0)
/// each with [,warmup_steps=N[,warmup_start=F]] (F 0). Throws Error(input) naming what is known for an unknown name or
/// key, a missing or repeated key, and a value outside of its range.
Schedule parse_schedule(std::string_view text, double base_lr);

/// Throws Error(input) as parse_schedule does, for a schedule that was not made by it.
void check(const Schedule& schedule);

}  // namespace halfstep
