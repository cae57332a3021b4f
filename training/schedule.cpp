#include "training/schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "graph/error.h"

namespace halfstep {
namespace {

double rate_at(const ConstantRate&, double base, double) { return base; }

double rate_at(const ExponentialDecay& d, double base, double t) {
  const double exponent = t / static_cast<double>(d.decay_steps);
  return base * std::pow(d.decay_rate, d.staircase ? std::floor(exponent) : exponent);
}

double rate_at(const StepDecay& d, double base, double t) {
  return base * std::pow(d.gamma, std::floor(t / static_cast<double>(d.step_size)));
}

double rate_at(const MilestoneDecay& d, double base, double t) {
  const auto passed = std::count_if(d.milestones.begin(), d.milestones.end(),
                                    [&](std::int64_t m) { return static_cast<double>(m) <= t; });
  return base * std::pow(d.gamma, static_cast<double>(passed));
}

double progress(std::int64_t decay_steps, double t) { return std::min(t / static_cast<double>(decay_steps), 1.0); }

double rate_at(const CosineDecay& d, double base, double t) {
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress(d.decay_steps, t)));
  return base * ((1 - d.alpha) * cosine + d.alpha);
}

double rate_at(const LinearDecay& d, double base, double t) {
  return base + (d.end_lr - base) * progress(d.decay_steps, t);
}

/// The KEY=VALUE pairs of a schedule's text, each to be taken once.
class Options {
 public:
  Options(std::string_view schedule, std::string_view text) : schedule_(schedule) {
    while (!text.empty()) {
      const std::size_t comma = text.find(',');
      const std::string_view pair = text.substr(0, comma);
      text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
      const std::size_t equals = pair.find('=');
      if (equals == std::string_view::npos || equals == 0)
        throw_input_error(fmt::format("KEY=VALUE, …, after '{}:'", schedule), fmt::format("'{}'", pair),
                          "write e.g. exponential:decay_steps=1000,decay_rate=0.9");
      const std::string_view key = pair.substr(0, equals);
      if (has(key))
        throw_input_error(fmt::format("each key of schedule '{}' once", schedule), fmt::format("'{}' twice", key),
                          "remove one");
      pairs_.push_back({key, pair.substr(equals + 1)});
    }
  }

  bool has(std::string_view key) const { return find(key) != nullptr; }

  void check_known(std::span<const std::string_view> known) const {
    for (const auto& [key, value] : pairs_)
      if (std::find(known.begin(), known.end(), key) == known.end())
        throw_input_error(fmt::format("a key of schedule '{}': {}", schedule_, fmt::join(known, ", ")),
                          fmt::format("'{}'", key), "correct the key");
  }

  std::int64_t count(std::string_view key, std::int64_t lowest, std::optional<std::int64_t> fallback = {}) const {
    const std::string_view* text = required(key, fallback.has_value());
    return text ? to_count(key, *text, lowest) : *fallback;
  }

  std::vector<std::int64_t> counts(std::string_view key, std::int64_t lowest) const {
    std::vector<std::int64_t> values;
    std::string_view rest = *required(key, false);
    for (;;) {
      const std::size_t slash = rest.find('/');
      values.push_back(to_count(key, rest.substr(0, slash), values.empty() ? lowest : values.back() + 1));
      if (slash == std::string_view::npos) return values;
      rest = rest.substr(slash + 1);
    }
  }

  double number(std::string_view key, double lowest, double highest, std::optional<double> fallback = {}) const {
    const std::string_view* text = required(key, fallback.has_value());
    if (!text) return *fallback;
    double value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || end != text->data() + text->size() || !(value >= lowest && value <= highest))
      refuse(key, *text,
             highest < std::numeric_limits<double>::max() ? fmt::format("a number from {} to {}", lowest, highest)
                                                          : fmt::format("a finite number of at least {}", lowest));
    return value;
  }

  bool flag(std::string_view key) const {
    const std::string_view* text = find(key);
    if (!text || *text == "false" || *text == "0") return false;
    if (*text != "true" && *text != "1") refuse(key, *text, "true or false");
    return true;
  }

 private:
  const std::string_view* find(std::string_view key) const {
    for (const auto& pair : pairs_)
      if (pair.first == key) return &pair.second;
    return nullptr;
  }

  const std::string_view* required(std::string_view key, bool optional) const {
    const std::string_view* text = find(key);
    if (!text && !optional)
      throw_input_error(fmt::format("schedule '{}' with its key {}", schedule_, key), "no such key",
                        fmt::format("add {}=…", key));
    return text;
  }

  std::int64_t to_count(std::string_view key, std::string_view text, std::int64_t lowest) const {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < lowest)
      refuse(key, text, fmt::format("an integer of at least {}", lowest));
    return value;
  }

  [[noreturn]] void refuse(std::string_view key, std::string_view value, const std::string& required) const {
    throw_input_error(fmt::format("{} as {} of schedule '{}'", required, key, schedule_), fmt::format("'{}'", value),
                      "correct the value");
  }

  std::string_view schedule_;
  std::vector<std::pair<std::string_view, std::string_view>> pairs_;
};

constexpr double kUnbounded = std::numeric_limits<double>::max();

Decay read_constant(const Options&) { return ConstantRate{}; }

Decay read_exponential(const Options& o) {
  return ExponentialDecay{o.count("decay_steps", 1), o.number("decay_rate", 0, kUnbounded), o.flag("staircase")};
}

Decay read_step(const Options& o) {
  if (o.has("step_size") == o.has("milestones"))
    throw_input_error("schedule 'step' with either step_size or milestones",
                      o.has("step_size") ? "both" : "neither of them", "give one, e.g. step:step_size=1000,gamma=0.1");
  const double gamma = o.number("gamma", 0, kUnbounded, 0.1);
  if (o.has("step_size")) return StepDecay{o.count("step_size", 1), gamma};
  return MilestoneDecay{o.counts("milestones", 0), gamma};
}

Decay read_cosine(const Options& o) { return CosineDecay{o.count("decay_steps", 1), o.number("alpha", 0, 1, 0.0)}; }

Decay read_linear(const Options& o) {
  return LinearDecay{o.count("decay_steps", 1), o.number("end_lr", 0, kUnbounded, 0.0)};
}

struct Row {
  std::string_view name;
  std::vector<std::string_view> keys;
  Decay (*read)(const Options&);
};

const std::vector<Row>& table() {
  static const std::vector<Row> rows = {
      {"constant", {}, read_constant},
      {"exponential", {"decay_steps", "decay_rate", "staircase"}, read_exponential},
      {"step", {"step_size", "milestones", "gamma"}, read_step},
      {"cosine", {"decay_steps", "alpha"}, read_cosine},
      {"linear", {"decay_steps", "end_lr"}, read_linear},
  };
  return rows;
}

std::string text_of(const ConstantRate&) { return "constant:"; }
std::string text_of(const ExponentialDecay& d) {
  return fmt::format("exponential:decay_steps={},decay_rate={},staircase={}", d.decay_steps, d.decay_rate, d.staircase);
}
std::string text_of(const StepDecay& d) { return fmt::format("step:step_size={},gamma={}", d.step_size, d.gamma); }
std::string text_of(const MilestoneDecay& d) {
  return fmt::format("step:milestones={},gamma={}", fmt::join(d.milestones, "/"), d.gamma);
}
std::string text_of(const CosineDecay& d) {
  return fmt::format("cosine:decay_steps={},alpha={}", d.decay_steps, d.alpha);
}
std::string text_of(const LinearDecay& d) {
  return fmt::format("linear:decay_steps={},end_lr={}", d.decay_steps, d.end_lr);
}

}  // namespace

float Schedule::at(std::int64_t updates) const {
  if (updates < warmup_steps) {
    const double fraction = static_cast<double>(updates) / static_cast<double>(warmup_steps);
    return static_cast<float>(base_lr * (warmup_start + (1 - warmup_start) * fraction));
  }
  const double t = static_cast<double>(updates - warmup_steps);
  return static_cast<float>(std::visit([&](const auto& d) { return rate_at(d, base_lr, t); }, decay));
}

std::string Schedule::to_string() const {
  std::string text = std::visit([](const auto& d) { return text_of(d); }, decay);
  if (warmup_steps > 0)
    text +=
        fmt::format("{}warmup_steps={},warmup_start={}", text.ends_with(':') ? "" : ",", warmup_steps, warmup_start);
  if (text.ends_with(':')) text.pop_back();
  return text;
}

Schedule parse_schedule(std::string_view text, double base_lr) {
  if (!(base_lr >= 0 && base_lr <= std::numeric_limits<float>::max()))
    throw_input_error("a finite learning rate of at least 0", fmt::format("{}", base_lr), "correct --lr");
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const auto row = std::find_if(table().begin(), table().end(), [&](const Row& r) { return r.name == name; });
  if (row == table().end()) {
    std::vector<std::string_view> names;
    for (const Row& r : table()) names.push_back(r.name);
    throw_input_error(fmt::format("a learning-rate schedule: {}", fmt::join(names, ", ")), fmt::format("'{}'", name),
                      "correct the name");
  }
  const Options options(name, colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1));
  std::vector<std::string_view> keys = row->keys;
  keys.insert(keys.end(), {"warmup_steps", "warmup_start"});
  options.check_known(keys);
  Schedule schedule{base_lr, row->read(options), options.count("warmup_steps", 0, 0),
                    options.number("warmup_start", 0, 1, 0.0)};
  if (schedule.warmup_steps == 0) schedule.warmup_start = 0;
  return schedule;
}

void check(const Schedule& schedule) {
  if (schedule.warmup_steps < 0)
    throw_input_error("warmup_steps of at least 0", fmt::format("{}", schedule.warmup_steps), "correct the value");
  parse_schedule(schedule.to_string(), schedule.base_lr);
}

}  // namespace halfstep
