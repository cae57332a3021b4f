#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/base/error.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace halfstep {
namespace {

constexpr double kLeastScale = 1, kMostScale = 16777216;  // 2^24
constexpr double kHuge = 1e30, kTiny = 1e-30;             // what f32 and its reciprocal hold with room to spare
constexpr double kMostCount = 1LL << 40;

using Options = OptimizerOptions;

template <auto Member>
std::optional<double> get(const Options& o) {
  return static_cast<double>(o.*Member);
}
template <auto Member>
void set(Options& o, double value) {
  o.*Member = static_cast<std::remove_reference_t<decltype(o.*Member)>>(value);
}
template <auto Member>
std::optional<double> get_scale(const Options& o) {
  return static_cast<double>(o.loss_scale.*Member);
}
template <auto Member>
void set_scale(Options& o, double value) {
  o.loss_scale.*Member = static_cast<std::remove_reference_t<decltype(o.loss_scale.*Member)>>(value);
}
template <auto Member>
std::optional<double> get_bound(const Options& o) {
  return o.loss_scale.*Member;
}
template <auto Member>
void set_bound(Options& o, double value) {
  o.loss_scale.*Member = value;
}

/// "weight-decay" of "weight_decay".
std::string flag_of(std::string_view hyperparameter) {
  std::string flag(hyperparameter);
  std::ranges::replace(flag, '_', '-');
  return flag;
}

std::string range_text(const OptimizerNumber& n) {
  return fmt::format("{} from {:g} to {}{:g}", n.whole ? "a whole number" : "a number", n.lowest,
                     n.below_highest ? "below " : "", n.highest);
}

/// `name` is what the user called it.
void check_range(const OptimizerNumber& n, double value, const std::string& name) {
  // The operators keep numbers as f32: 0.99999999 is 1 there.
  const double kept = n.whole ? value : static_cast<double>(static_cast<float>(value));
  const bool low = value >= n.lowest, high = n.below_highest ? kept < n.highest : value <= n.highest;
  if (low && high && (!n.whole || std::floor(value) == value)) return;
  throw_input_error(fmt::format("{} as {}", name, range_text(n)), fmt::format("{}", value), n.meaning);
}

[[noreturn]] void throw_foreign(std::string_view flag, const OptimizerDef& row) {
  std::vector<std::string> own, others;
  for (const Hyperparameter& h : row.hyperparameters) own.push_back("--" + flag_of(h.name));
  for (const OptimizerNumber& n : optimizer_numbers())
    if (n.name == flag)
      for (const OptimizerDef* owner : n.owners) others.emplace_back(owner->name);
  throw_input_error(
      fmt::format("the numbers of --optimizer {}: {}", row.name, fmt::join(own, ", ")), fmt::format("--{}", flag),
      others.empty() ? "omit it" : fmt::format("omit it, or use --optimizer {}", fmt::join(others, " or ")));
}

[[noreturn]] void throw_foreign_key(std::string_view key, const ParameterGroup& group, const OptimizerDef& row) {
  std::vector<std::string_view> keys{"lr_factor", "frozen_updates"};
  for (const Hyperparameter& h : row.hyperparameters) keys.push_back(h.name);
  throw_input_error(
      fmt::format("the keys of a parameter group with the optimizer {}: {}", row.name, fmt::join(keys, ", ")),
      fmt::format("'{}' for '{}'", key, group.pattern), "correct or omit the key");
}

/// Rows under the text that they share, in the table's order.
using TextGroups = std::vector<std::pair<std::string, std::vector<std::string_view>>>;
TextGroups by_text(const std::vector<const OptimizerDef*>& owners, const auto& text_of) {
  TextGroups groups;
  for (const OptimizerDef* owner : owners) {
    const std::string text = text_of(*owner);
    auto group = std::ranges::find(groups, text, &TextGroups::value_type::first);
    if (group == groups.end()) group = groups.insert(group, {text, {}});
    group->second.push_back(owner->name);
  }
  return groups;
}

/// One number for each name that any row has.
std::vector<OptimizerNumber> hyperparameter_numbers() {
  std::vector<OptimizerNumber> numbers;
  for (const OptimizerDef& row : optimizers())
    for (const Hyperparameter& h : row.hyperparameters) {
      const auto known = std::ranges::find(numbers, h.name, &OptimizerNumber::hyperparameter);
      if (known != numbers.end()) {
        known->owners.push_back(&row);
        continue;
      }
      numbers.push_back({.name = flag_of(h.name),
                         .meaning = {},
                         .lowest = h.lowest,
                         .highest = h.highest,
                         .below_highest = h.below_highest,
                         .whole = h.is_switch,
                         .is_switch = h.is_switch,
                         .hyperparameter = h.name,
                         .owners = {&row}});
    }
  for (OptimizerNumber& n : numbers) {
    const auto add = [](std::string& text, std::string_view part) {
      text.append(text.empty() ? "" : "; ").append(part);
    };
    for (const auto& [text, rows] :
         by_text(n.owners, [&](const OptimizerDef& row) { return std::string(row.find(n.hyperparameter)->meaning); }))
      add(n.meaning, fmt::format("{}: {}", fmt::join(rows, ", "), text));
    if (n.is_switch) continue;
    // The first row's default goes for all that have no other.
    for (const auto& [text, rows] : by_text(n.owners, [&](const OptimizerDef& row) {
           return fmt::format("{}", row.find(n.hyperparameter)->fallback);
         }))
      add(n.default_text, n.default_text.empty() ? text : fmt::format("{}: {}", fmt::join(rows, ", "), text));
  }
  return numbers;
}

}  // namespace

double LossScaleOptions::lowest() const { return min ? *min : std::min(kLeastScale, initial); }
double LossScaleOptions::highest() const { return max ? *max : std::max(kMostScale, initial); }

std::int64_t LossScaleOptions::backoffs() const {
  if (!enabled || initial <= lowest()) return 0;
  return static_cast<std::int64_t>(std::ceil(std::log2(initial / lowest()) / -std::log2(backoff_factor)));
}

bool OptimizerNumber::belongs_to(std::string_view optimizer) const {
  return hyperparameter.empty() || std::ranges::find(owners, optimizer, &OptimizerDef::name) != owners.end();
}

std::optional<double> OptimizerNumber::get(const OptimizerOptions& options) const {
  if (get_member) return get_member(options);
  if (const auto told = options.numbers.find(hyperparameter); told != options.numbers.end()) return told->second;
  return optimizer_named(options.name).find(hyperparameter)->fallback;
}

Hyperparameters hyperparameters_of(const OptimizerOptions& options) { return hyperparameters_of(options, {}); }

Hyperparameters hyperparameters_of(const OptimizerOptions& options, const ParameterGroup& group) {
  const OptimizerDef& row = optimizer_named(options.name);
  Hyperparameters result(row);
  for (const auto& [name, value] : options.numbers) {
    if (!row.find(name)) throw_foreign(flag_of(name), row);
    result.set(name, value);
  }
  for (const auto& [name, value] : group.numbers) {
    if (!row.find(name)) throw_foreign_key(name, group, row);
    result.set(name, value);
  }
  return result;
}

const std::vector<OptimizerNumber>& optimizer_numbers() {
  using Scale = LossScaleOptions;
  static const std::vector<OptimizerNumber> numbers = [] {
    std::vector<OptimizerNumber> all = hyperparameter_numbers();
    const std::vector<OptimizerNumber> members = {
        {.name = "clip-norm",
         .meaning = "clips gradients to this global norm; 0: no clipping",
         .lowest = 0,
         .highest = kHuge,
         .get_member = get<&Options::clip_norm>,
         .set_member = set<&Options::clip_norm>},
        {.name = "accumulate",
         .meaning = "batches whose gradients are averaged for one update",
         .lowest = 1,
         .highest = kMostCount,
         .whole = true,
         .get_member = get<&Options::accumulate>,
         .set_member = set<&Options::accumulate>},
        {.name = "loss-scale-min",
         .meaning = "lower bound of the loss scale",
         .lowest = kTiny,
         .highest = kHuge,
         .default_text = fmt::format("{}, or --loss-scale if that is less", kLeastScale),
         .get_member = get_bound<&Scale::min>,
         .set_member = set_bound<&Scale::min>},
        {.name = "loss-scale-max",
         .meaning = "upper bound of the loss scale",
         .lowest = kTiny,
         .highest = kHuge,
         .default_text = fmt::format("{}, or --loss-scale if that is more", kMostScale),
         .get_member = get_bound<&Scale::max>,
         .set_member = set_bound<&Scale::max>},
        {.name = "loss-scale-growth",
         .meaning = "factor on the loss scale after --loss-scale-growth-interval updates",
         .lowest = 1,
         .highest = kHuge,
         .get_member = get_scale<&Scale::growth_factor>,
         .set_member = set_scale<&Scale::growth_factor>},
        {.name = "loss-scale-growth-interval",
         .meaning = "consecutive finite updates before the loss scale grows",
         .lowest = 1,
         .highest = kMostCount,
         .whole = true,
         .get_member = get_scale<&Scale::growth_interval>,
         .set_member = set_scale<&Scale::growth_interval>},
        {.name = "loss-scale-backoff",
         .meaning = "factor on the loss scale when gradients are not finite",
         .lowest = 1e-6,
         .highest = 1,
         .below_highest = true,
         .get_member = get_scale<&Scale::backoff_factor>,
         .set_member = set_scale<&Scale::backoff_factor>},
    };
    all.insert(all.end(), members.begin(), members.end());
    return all;
  }();
  return numbers;
}

std::string default_of(const OptimizerNumber& number) {
  if (!number.default_text.empty() || !number.get_member) return number.default_text;
  const std::optional<double> value = number.get_member({});
  return value ? fmt::format("{}", *value) : "";
}

void set_number(OptimizerOptions& options, const OptimizerNumber& number, double value) {
  if (!number.belongs_to(options.name)) throw_foreign(number.name, optimizer_named(options.name));
  check_range(number, value, "--" + number.name);
  if (number.set_member)
    number.set_member(options, value);
  else
    options.numbers.insert_or_assign(std::string(number.hyperparameter), value);
}

namespace {

void check_numbers(const OptimizerOptions& options) {
  const Hyperparameters h = hyperparameters_of(options);
  for (const OptimizerNumber& number : optimizer_numbers())
    if (number.belongs_to(options.name))
      if (const std::optional<double> value = number.get(options)) check_range(number, *value, "--" + number.name);
  if (const OptimizerDef& row = optimizer_named(options.name); row.check) row.check(h);
}

void check_numbers(const OptimizerOptions& options, const ParameterGroup& group) {
  const Hyperparameters h = hyperparameters_of(options, group);
  for (const OptimizerNumber& number : optimizer_numbers())
    if (const auto own = group.numbers.find(number.hyperparameter); own != group.numbers.end())
      check_range(number, own->second, fmt::format("{} of '{}'", own->first, group.pattern));
  if (const OptimizerDef& row = optimizer_named(options.name); row.check) row.check(h);
}

}  // namespace

void check(const OptimizerOptions& options) {
  check_numbers(options);
  for (const ParameterGroup& group : options.groups) {
    if (group.pattern.empty()) throw_input_error("a name pattern for each parameter group", "none", "");
    if (!(group.lr_factor >= 0 && group.lr_factor <= kHuge))
      throw_input_error(fmt::format("a learning-rate factor of at least 0 for '{}'", group.pattern),
                        fmt::format("{}", group.lr_factor), "correct the factor");
    if (group.frozen_updates < 0)
      throw_input_error(fmt::format("a number of updates that '{}' stays frozen for", group.pattern),
                        fmt::format("{}", group.frozen_updates), "correct the number");
    check_numbers(options, group);
  }
  const LossScaleOptions& scale = options.loss_scale;
  if (scale.enabled && !(scale.lowest() <= scale.initial && scale.initial <= scale.highest()))
    throw_input_error(fmt::format("--loss-scale from {} to {}, its bounds", scale.lowest(), scale.highest()),
                      fmt::format("{}", scale.initial), "change --loss-scale, --loss-scale-min or --loss-scale-max");
}

}  // namespace halfstep
