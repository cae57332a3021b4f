#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <halfstep/training/schedule.h>

namespace halfstep {
namespace {

using Numbers = std::span<const double>;

constexpr double kUnbounded = std::numeric_limits<double>::max();

/// From `from` to `to` along half a wave.
double cosine_between(double from, double to, double fraction) {
  return to + (from - to) * 0.5 * (1 + std::cos(std::numbers::pi * fraction));
}

double progress(double steps, double t) { return std::min(t / steps, 1.0); }

/// base
double constant(Numbers, double base, double) { return base; }

/// base · decay_rate^(t / decay_steps), the exponent rounded down when staircase
double exponential(Numbers n, double base, double t) {
  const double exponent = t / n[0];
  return base * std::pow(n[1], n[2] != 0 ? std::floor(exponent) : exponent);
}

/// base · gamma^⌊t / step_size⌋
double step(Numbers n, double base, double t) { return base * std::pow(n[1], std::floor(t / n[0])); }

/// base · gamma^(number of milestones ≤ t)
double milestones(Numbers n, double base, double t) {
  const auto passed = std::count_if(n.begin() + 1, n.end(), [&](double milestone) { return milestone <= t; });
  return base * std::pow(n[0], static_cast<double>(passed));
}

/// base · ((1 − alpha) · ½(1 + cos(π · min(t, decay_steps) / decay_steps)) + alpha)
double cosine(Numbers n, double base, double t) { return base * cosine_between(1, n[1], progress(n[0], t)); }

/// cosine over first_decay_steps, then again and again, each time t_mul times as long and from m_mul times the height
double cosine_restarts(Numbers n, double base, double t) {
  const double growth = n[1], at = t / n[0];  // in lengths of the first
  const auto start = [&](double cycle) { return growth == 1 ? cycle : (std::pow(growth, cycle) - 1) / (growth - 1); };
  double cycle = std::floor(growth == 1 ? at : std::log1p(at * (growth - 1)) / std::log(growth));
  // The logarithm may be off by the last digit where a cycle begins.
  if (start(cycle + 1) <= at) ++cycle;
  if (start(cycle) > at) --cycle;
  const double fraction = (at - start(cycle)) / std::pow(growth, cycle);
  return base * (n[3] + (1 - n[3]) * std::pow(n[2], cycle) * cosine_between(1, 0, fraction));
}

/// base / (1 + decay_rate · t / decay_steps), the quotient rounded down when staircase
double inverse_time(Numbers n, double base, double t) {
  const double times = t / n[0];
  return base / (1 + n[1] * (n[2] != 0 ? std::floor(times) : times));
}

/// base + (end_lr − base) · min(t, decay_steps) / decay_steps
double linear(Numbers n, double base, double t) { return base + (n[1] - base) * progress(n[0], t); }

/// end_lr + (base − end_lr) · (1 − min(t, decay_steps) / decay_steps)^power
double polynomial(Numbers n, double base, double t) {
  return n[2] + (base - n[2]) * std::pow(1 - progress(n[0], t), n[1]);
}

/// From base / div_factor to base along half a wave, in the first pct_start of total_steps, and on to base / div_factor
/// / final_div_factor along another; both ends of a part are updates. What comes later is as the last.
double one_cycle(Numbers n, double base, double t) {
  const double first = base / n[2], last = first / n[3], end = n[0] - 1, peak = n[1] * n[0] - 1;
  const double at = std::min(t, end);
  if (at <= peak) return cosine_between(first, base, peak > 0 ? at / peak : 1);
  return cosine_between(base, last, (at - peak) / (end - peak));
}

}  // namespace

std::span<const ScheduleDef> schedules() {
  using enum ScheduleKey::Kind;
  static const std::vector<ScheduleDef> rows = {
      {.name = "constant", .source = "torch.optim.lr_scheduler.ConstantLR with factor 1", .rate = constant},
      {.name = "exponential",
       .source = "keras.optimizers.schedules.ExponentialDecay",
       .keys = {{.name = "decay_steps", .kind = count, .lowest = 1},
                {.name = "decay_rate", .highest = kUnbounded},
                {.name = "staircase", .kind = flag, .fallback = 0}},
       .rate = exponential},
      {.name = "step",
       .source = "torch.optim.lr_scheduler.StepLR",
       .keys = {{.name = "step_size", .kind = count, .lowest = 1},
                {.name = "gamma", .highest = kUnbounded, .fallback = 0.1}},
       .rate = step},
      {.name = "step",
       .source = "torch.optim.lr_scheduler.MultiStepLR",
       .keys = {{.name = "gamma", .highest = kUnbounded, .fallback = 0.1}},
       .list = "milestones",
       .rate = milestones},
      {.name = "cosine",
       .source = "keras.optimizers.schedules.CosineDecay; torch.optim.lr_scheduler.CosineAnnealingLR with eta_min = "
                 "alpha · base, up to its first T_max = decay_steps steps",
       .keys = {{.name = "decay_steps", .kind = count, .lowest = 1}, {.name = "alpha", .highest = 1, .fallback = 0}},
       .rate = cosine},
      {.name = "linear",
       .source = "torch.optim.lr_scheduler.LinearLR",
       .keys = {{.name = "decay_steps", .kind = count, .lowest = 1},
                {.name = "end_lr", .highest = kUnbounded, .fallback = 0}},
       .rate = linear},
      {.name = "polynomial",
       .source = "torch.optim.lr_scheduler.PolynomialLR; keras.optimizers.schedules.PolynomialDecay",
       .keys = {{.name = "decay_steps", .kind = count, .lowest = 1},
                {.name = "power", .highest = kUnbounded, .fallback = 1},
                {.name = "end_lr", .highest = kUnbounded, .fallback = 0}},
       .rate = polynomial},
      {.name = "one_cycle",
       .source = "torch.optim.lr_scheduler.OneCycleLR whose max_lr is the learning rate",
       .keys = {{.name = "total_steps", .kind = count, .lowest = 1},
                {.name = "pct_start", .highest = 1, .fallback = 0.3},
                {.name = "div_factor", .lowest = 1e-9, .highest = kUnbounded, .fallback = 25},
                {.name = "final_div_factor", .lowest = 1e-9, .highest = kUnbounded, .fallback = 1e4}},
       .warms_up = true,
       .rate = one_cycle},
      {.name = "cosine_restarts",
       .source = "keras.optimizers.schedules.CosineDecayRestarts; with t_mul = T_mult and alpha = eta_min / base "
                 "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
       .keys = {{.name = "first_decay_steps", .kind = count, .lowest = 1},
                {.name = "t_mul", .lowest = 1, .highest = kUnbounded, .fallback = 2},
                {.name = "m_mul", .highest = kUnbounded, .fallback = 1},
                {.name = "alpha", .highest = 1, .fallback = 0}},
       .rate = cosine_restarts},
      {.name = "inverse_time",
       .source = "keras.optimizers.schedules.InverseTimeDecay",
       .keys = {{.name = "decay_steps", .kind = count, .lowest = 1},
                {.name = "decay_rate", .highest = kUnbounded},
                {.name = "staircase", .kind = flag, .fallback = 0}},
       .rate = inverse_time},
  };
  return rows;
}

}  // namespace halfstep
