#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/parse_number.h"
#include <halfstep/base/error.h>
#include <halfstep/training/schedule.h>

namespace halfstep {
namespace {

constexpr double kUnbounded = std::numeric_limits<double>::max();

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

  void check_known(const std::vector<std::string_view>& known) const {
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
    const auto value = parse_number<double>(*text);
    if (!value || !(*value >= lowest && *value <= highest))
      refuse(key, *text,
             highest < std::numeric_limits<double>::max() ? fmt::format("a number from {} to {}", lowest, highest)
                                                          : fmt::format("a finite number of at least {}", lowest));
    return *value;
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
    const auto value = parse_number<std::int64_t>(text);
    if (!value || *value < lowest) refuse(key, text, fmt::format("an integer of at least {}", lowest));
    return *value;
  }

  [[noreturn]] void refuse(std::string_view key, std::string_view value, const std::string& required) const {
    throw_input_error(fmt::format("{} as {} of schedule '{}'", required, key, schedule_), fmt::format("'{}'", value),
                      "correct the value");
  }

  std::string_view schedule_;
  std::vector<std::pair<std::string_view, std::string_view>> pairs_;
};

/// The rows of a name.
std::vector<const ScheduleDef*> rows_of(std::string_view name) {
  std::vector<const ScheduleDef*> rows;
  std::vector<std::string_view> names;
  for (const ScheduleDef& row : schedules()) {
    if (row.name == name) rows.push_back(&row);
    if (names.empty() || names.back() != row.name) names.push_back(row.name);
  }
  if (rows.empty())
    throw_input_error(fmt::format("a learning-rate schedule: {}", fmt::join(names, ", ")), fmt::format("'{}'", name),
                      "correct the name");
  return rows;
}

/// What tells a row from others of its name.
std::string_view telling_key(const ScheduleDef& row) { return row.list.empty() ? row.keys.at(0).name : row.list; }

const ScheduleDef& row_told_by(const Options& options, const std::vector<const ScheduleDef*>& rows) {
  if (rows.size() == 1) return *rows[0];
  std::vector<const ScheduleDef*> told;
  std::vector<std::string_view> keys;
  for (const ScheduleDef* row : rows) {
    keys.push_back(telling_key(*row));
    if (options.has(keys.back())) told.push_back(row);
  }
  if (told.size() != 1)
    throw_input_error(fmt::format("schedule '{}' with either {}", rows[0]->name, fmt::join(keys, " or ")),
                      told.empty() ? "neither of them" : "both", fmt::format("give one, e.g. {}=…", keys[0]));
  return *told[0];
}

std::vector<std::string_view> keys_of(const std::vector<const ScheduleDef*>& rows) {
  std::vector<std::string_view> keys;
  const auto add = [&](std::string_view key) {
    if (!key.empty() && std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  };
  for (const ScheduleDef* row : rows) {
    for (const ScheduleKey& key : row->keys) add(key.name);
    add(row->list);
  }
  add("warmup_steps");
  add("warmup_start");
  return keys;
}

std::vector<double> read_numbers(const ScheduleDef& row, const Options& options) {
  std::vector<double> numbers;
  for (const ScheduleKey& key : row.keys) {
    if (key.kind == ScheduleKey::Kind::flag)
      numbers.push_back(options.flag(key.name));
    else if (key.kind == ScheduleKey::Kind::count)
      numbers.push_back(static_cast<double>(options.count(key.name, static_cast<std::int64_t>(key.lowest))));
    else
      numbers.push_back(options.number(key.name, key.lowest, key.highest, key.fallback));
  }
  if (!row.list.empty())
    for (const std::int64_t count : options.counts(row.list, 0)) numbers.push_back(static_cast<double>(count));
  return numbers;
}

std::string text_of(const ScheduleKey& key, double value) {
  if (key.kind == ScheduleKey::Kind::flag) return fmt::format("{}={}", key.name, value != 0);
  if (key.kind == ScheduleKey::Kind::count) return fmt::format("{}={}", key.name, static_cast<std::int64_t>(value));
  return fmt::format("{}={}", key.name, value);
}

}  // namespace

float Schedule::at(std::int64_t updates) const {
  if (updates < warmup_steps) {
    const double fraction = static_cast<double>(updates) / static_cast<double>(warmup_steps);
    return static_cast<float>(base_lr * (warmup_start + (1 - warmup_start) * fraction));
  }
  return static_cast<float>(decay->rate(numbers, base_lr, static_cast<double>(updates - warmup_steps)));
}

std::string Schedule::to_string() const {
  std::vector<std::string> parts;
  if (!decay->list.empty()) {
    std::vector<std::int64_t> counts;
    for (std::size_t i = decay->keys.size(); i < numbers.size(); ++i)
      counts.push_back(static_cast<std::int64_t>(numbers[i]));
    parts.push_back(fmt::format("{}={}", decay->list, fmt::join(counts, "/")));
  }
  for (std::size_t i = 0; i < decay->keys.size(); ++i) parts.push_back(text_of(decay->keys[i], numbers.at(i)));
  if (warmup_steps > 0) parts.push_back(fmt::format("warmup_steps={},warmup_start={}", warmup_steps, warmup_start));
  return fmt::format("{}{}{}", decay->name, parts.empty() ? "" : ":", fmt::join(parts, ","));
}

Schedule parse_schedule(std::string_view text, double base_lr) {
  if (!(base_lr >= 0 && base_lr <= std::numeric_limits<float>::max()))
    throw_input_error("a finite learning rate of at least 0", fmt::format("{}", base_lr), "correct --lr");
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const std::vector<const ScheduleDef*> rows = rows_of(name);
  const Options options(name, colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1));
  options.check_known(keys_of(rows));
  const ScheduleDef& row = row_told_by(options, rows);
  Schedule schedule{base_lr, &row, read_numbers(row, options), options.count("warmup_steps", 0, 0),
                    options.number("warmup_start", 0, 1, 0.0)};
  if (schedule.warmup_steps == 0) schedule.warmup_start = 0;
  if (row.warms_up && schedule.warmup_steps > 0)
    throw_input_error(fmt::format("schedule '{}' without warmup_steps: it has its own warm-up", name),
                      fmt::format("warmup_steps={}", schedule.warmup_steps), "leave it out");
  return schedule;
}

std::string describe_schedules() {
  std::vector<std::string> lines;
  for (const ScheduleDef& row : schedules()) {
    std::string required, optional;
    if (!row.list.empty()) required = fmt::format("{}=N/N/...", row.list);
    for (const ScheduleKey& key : row.keys) {
      const std::string_view value = key.kind == ScheduleKey::Kind::flag    ? "true"
                                     : key.kind == ScheduleKey::Kind::count ? "N"
                                                                            : "X";
      if (key.kind == ScheduleKey::Kind::flag || key.fallback)
        optional += fmt::format(" [,{}={}]", key.name, value);
      else
        required += fmt::format("{}{}={}", required.empty() ? "" : ",", key.name, value);
    }
    lines.push_back(fmt::format("{}{}{}{}", row.name, required.empty() ? "" : ":", required, optional));
  }
  return fmt::format("{}", fmt::join(lines, "\n"));
}

void check(const Schedule& schedule) {
  if (schedule.warmup_steps < 0)
    throw_input_error("warmup_steps of at least 0", fmt::format("{}", schedule.warmup_steps), "correct the value");
  parse_schedule(schedule.to_string(), schedule.base_lr);
}

}  // namespace halfstep
