// Learning-rate schedules: a table with a row for each, and schedules that map a number of updates to a learning rate.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// A parameter of a schedule, KEY=VALUE in its text form.
struct ScheduleKey {
  enum class Kind { count, number, flag };
  std::string_view name;
  Kind kind = Kind::number;
  double lowest = 0, highest = 0;       ///< of a number; a count has no highest
  std::optional<double> fallback = {};  ///< unset: the key is required
};

/// In the formulas, t is the number of updates applied so far (see StepResult), counted from the end of warm-up.
/// Skipped updates do not count, as in PyTorch when scheduler.step() is called only after an applied optimizer.step().
struct ScheduleDef {
  std::string_view name;
  std::string_view source;  ///< the reference for its results
  std::vector<ScheduleKey> keys = {};
  std::string_view list = {};  ///< an additional key with increasing counts: N/N/…; distinguishes rows of one name
  bool warms_up = false;       ///< it has its own warm-up, and accepts no other
  /// `numbers`: the values of the keys in order, then those of the list.
  double (*rate)(std::span<const double> numbers, double base, double t) = nullptr;
};

std::span<const ScheduleDef> schedules();

/// A schedule of the table, after an optional linear warm-up.
struct Schedule {
  double base_lr = 1e-3;
  const ScheduleDef* decay = schedules().data();  ///< a row; default: constant
  std::vector<double> numbers = {};               ///< the arguments of `decay->rate`
  /// While updates < warmup_steps: lr = base · (warmup_start + (1 − warmup_start) · updates / warmup_steps). The decay
  /// starts counting when warm-up ends, as in Keras CosineDecay and in PyTorch SequentialLR(LinearLR, …).
  std::int64_t warmup_steps = 0;
  double warmup_start = 0;  ///< a fraction of base_lr

  /// Learning rate of the update after `updates` applied ones. Computed in double, rounded once.
  float at(std::int64_t updates) const;

  /// The text form, from which `parse_schedule(text, base_lr)` restores this schedule.
  std::string to_string() const;

  bool operator==(const Schedule&) const = default;
};

/// Parses `NAME[:KEY=VALUE,…]`; each schedule also takes warmup_steps=N and warmup_start=F (0). Throws Error(input) for
/// an unknown name or key, listing the known ones, a missing or repeated key, and a value out of range.
Schedule parse_schedule(std::string_view text, double base_lr);

/// The forms that `parse_schedule` accepts, a line for each schedule.
std::string describe_schedules();

/// Throws Error(input) as parse_schedule does, for a schedule that was created without it.
void check(const Schedule& schedule);

}  // namespace halfstep
