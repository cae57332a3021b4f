// Learning-rate schedules: a table with a row for each, and values that map a number of updates to a learning rate.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// A number of a schedule, as its text says it: KEY=VALUE.
struct ScheduleKey {
  enum class Kind { count, number, flag };
  std::string_view name;
  Kind kind = Kind::number;
  double lowest = 0, highest = 0;       ///< of a number; a count has no highest
  std::optional<double> fallback = {};  ///< unset: it must be given
};

/// In the formulas, t is the number of updates applied so far (see StepResult), from the end of warm-up. A skipped
/// update does not count, as in PyTorch where scheduler.step() follows an optimizer.step() that was not skipped.
struct ScheduleDef {
  std::string_view name;
  std::string_view source;  ///< whose numbers it gives
  std::vector<ScheduleKey> keys = {};
  std::string_view list = {};  ///< one more key, of increasing counts: N/N/…; of rows of one name it tells them apart
  bool warms_up = false;       ///< it begins with a warm-up of its own, and takes none besides
  /// `numbers`: those of the keys in order, then those of the list.
  double (*rate)(std::span<const double> numbers, double base, double t) = nullptr;
};

std::span<const ScheduleDef> schedules();

/// A schedule of the table, after an optional linear warm-up.
struct Schedule {
  double base_lr = 1e-3;
  const ScheduleDef* decay = schedules().data();  ///< a row: constant
  std::vector<double> numbers = {};               ///< as `decay->rate` takes them
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

/// Reads `NAME[:KEY=VALUE,…]` by the table; each also takes warmup_steps=N and warmup_start=F (0). Throws Error(input)
/// naming what is known for an unknown name or key, a missing or repeated key, and a value outside of its range.
Schedule parse_schedule(std::string_view text, double base_lr);

/// What `parse_schedule` takes, a line for each schedule.
std::string describe_schedules();

/// Throws Error(input) as parse_schedule does, for a schedule that was not made by it.
void check(const Schedule& schedule);

}  // namespace halfstep
