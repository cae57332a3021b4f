#include "passes/optimizer_options.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "graph/error.h"

namespace halfstep {
namespace {

struct OptimizerRow {
  OptimizerKind kind;
  std::string_view name;
  double weight_decay;  // when none is asked for
};
constexpr std::array<OptimizerRow, 3> kOptimizers{{{OptimizerKind::sgd, "sgd", 0},
                                                   {OptimizerKind::adam, "adam", 0},
                                                   {OptimizerKind::adamw, "adamw", 0.01}}};  // as PyTorch

constexpr double kLeastScale = 1, kMostScale = 16777216;  // 2^24
constexpr double kHuge = 1e30, kTiny = 1e-30;             // what f32 and its reciprocal hold with room to spare
constexpr double kMostCount = 1LL << 40;

const OptimizerRow& row_of(OptimizerKind kind) {
  return *std::find_if(kOptimizers.begin(), kOptimizers.end(), [&](const OptimizerRow& o) { return o.kind == kind; });
}

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

std::string range_text(const OptimizerNumber& n) {
  return fmt::format("{} from {:g} to {}{:g}", n.whole ? "a whole number" : "a number", n.lowest,
                     n.below_highest ? "below " : "", n.highest);
}

void check_range(const OptimizerNumber& n, double value) {
  // The operators keep numbers as f32: 0.99999999 is 1 there.
  const double kept = n.whole ? value : static_cast<double>(static_cast<float>(value));
  const bool low = value >= n.lowest, high = n.below_highest ? kept < n.highest : value <= n.highest;
  if (low && high && (!n.whole || std::floor(value) == value)) return;
  throw_input_error(fmt::format("--{} as {}", n.name, range_text(n)), fmt::format("{}", value), std::string(n.meaning));
}

[[noreturn]] void throw_foreign(const OptimizerNumber& n, OptimizerKind kind) {
  std::vector<std::string_view> names;
  for (const OptimizerKind k : n.kinds) names.push_back(name_of(k));
  throw_input_error(fmt::format("--{} with --optimizer {}", n.name, fmt::join(names, " or ")),
                    fmt::format("--optimizer {}", name_of(kind)), "leave it out, or take another optimizer");
}

}  // namespace

std::string_view name_of(OptimizerKind kind) { return row_of(kind).name; }

OptimizerKind parse_optimizer(std::string_view name) {
  std::string known;
  for (const OptimizerRow& o : kOptimizers) {
    if (o.name == name) return o.kind;
    known += (known.empty() ? "" : ", ") + std::string(o.name);
  }
  throw_input_error("an optimizer: " + known, "'" + std::string(name) + "'", "check --optimizer");
}

double LossScaleOptions::lowest() const { return min ? *min : std::min(kLeastScale, initial); }
double LossScaleOptions::highest() const { return max ? *max : std::max(kMostScale, initial); }

std::int64_t LossScaleOptions::backoffs() const {
  if (!enabled || initial <= lowest()) return 0;
  return static_cast<std::int64_t>(std::ceil(std::log2(initial / lowest()) / -std::log2(backoff_factor)));
}

double weight_decay_of(const OptimizerOptions& options) {
  return options.weight_decay ? *options.weight_decay : row_of(options.kind).weight_decay;
}

bool OptimizerNumber::belongs_to(OptimizerKind kind) const {
  return kinds.empty() || std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

const std::vector<OptimizerNumber>& optimizer_numbers() {
  using enum OptimizerKind;
  using Scale = LossScaleOptions;
  const double none = std::numeric_limits<float>::min();  // the smallest normal number: not 0
  static const std::vector<OptimizerNumber> numbers = {
      {.name = "momentum",
       .meaning = "momentum of sgd",
       .lowest = 0,
       .highest = 1,
       .kinds = {sgd},
       .get = get<&Options::momentum>,
       .set = set<&Options::momentum>},
      {.name = "dampening",
       .meaning = "part of each gradient that sgd's momentum leaves out",
       .lowest = 0,
       .highest = 1,
       .kinds = {sgd},
       .get = get<&Options::dampening>,
       .set = set<&Options::dampening>},
      {.name = "beta1",
       .meaning = "decay of the first moment, of adam and adamw",
       .lowest = 0,
       .highest = 1,
       .below_highest = true,
       .kinds = {adam, adamw},
       .get = get<&Options::beta1>,
       .set = set<&Options::beta1>},
      {.name = "beta2",
       .meaning = "decay of the second moment, of adam and adamw",
       .lowest = 0,
       .highest = 1,
       .below_highest = true,
       .kinds = {adam, adamw},
       .get = get<&Options::beta2>,
       .set = set<&Options::beta2>},
      {.name = "epsilon",
       .meaning = "added to the root of the second moment, of adam and adamw",
       .lowest = none,
       .highest = kHuge,
       .kinds = {adam, adamw},
       .get = get<&Options::epsilon>,
       .set = set<&Options::epsilon>},
      {.name = "weight-decay",
       .meaning = "decoupled for adamw, added to the gradients for sgd and adam",
       .lowest = 0,
       .highest = kHuge,
       .default_text = fmt::format("{}; adamw: {}", row_of(adam).weight_decay, row_of(adamw).weight_decay),
       .get = [](const Options& o) { return o.weight_decay; },
       .set = [](Options& o, double value) { o.weight_decay = value; }},
      {.name = "clip-norm",
       .meaning = "largest norm of all gradients; 0: any",
       .lowest = 0,
       .highest = kHuge,
       .get = get<&Options::clip_norm>,
       .set = set<&Options::clip_norm>},
      {.name = "accumulate",
       .meaning = "batches whose gradients make one update",
       .lowest = 1,
       .highest = kMostCount,
       .whole = true,
       .get = get<&Options::accumulate>,
       .set = set<&Options::accumulate>},
      {.name = "loss-scale-min",
       .meaning = "the loss scale never falls below it",
       .lowest = kTiny,
       .highest = kHuge,
       .default_text = fmt::format("{}, or --loss-scale if that is less", kLeastScale),
       .get = get_bound<&Scale::min>,
       .set = set_bound<&Scale::min>},
      {.name = "loss-scale-max",
       .meaning = "the loss scale never grows above it",
       .lowest = kTiny,
       .highest = kHuge,
       .default_text = fmt::format("{}, or --loss-scale if that is more", kMostScale),
       .get = get_bound<&Scale::max>,
       .set = set_bound<&Scale::max>},
      {.name = "loss-scale-growth",
       .meaning = "factor on the loss scale after --loss-scale-growth-interval updates",
       .lowest = 1,
       .highest = kHuge,
       .get = get_scale<&Scale::growth_factor>,
       .set = set_scale<&Scale::growth_factor>},
      {.name = "loss-scale-growth-interval",
       .meaning = "updates in a row with finite gradients before the loss scale grows",
       .lowest = 1,
       .highest = kMostCount,
       .whole = true,
       .get = get_scale<&Scale::growth_interval>,
       .set = set_scale<&Scale::growth_interval>},
      {.name = "loss-scale-backoff",
       .meaning = "factor on the loss scale when gradients are not finite",
       .lowest = 1e-6,
       .highest = 1,
       .below_highest = true,
       .get = get_scale<&Scale::backoff_factor>,
       .set = set_scale<&Scale::backoff_factor>},
  };
  return numbers;
}

std::string default_of(const OptimizerNumber& number) {
  const std::optional<double> value = number.get({});
  return number.default_text.empty() && value ? fmt::format("{}", *value) : number.default_text;
}

void set_number(OptimizerOptions& options, const OptimizerNumber& number, double value) {
  if (!number.belongs_to(options.kind)) throw_foreign(number, options.kind);
  check_range(number, value);
  number.set(options, value);
}

void check(const OptimizerOptions& options) {
  for (const OptimizerNumber& number : optimizer_numbers()) {
    const std::optional<double> value = number.get(options);
    if (!value) continue;
    if (!number.belongs_to(options.kind) && value != number.get({})) throw_foreign(number, options.kind);
    check_range(number, *value);
  }
  if (options.nesterov && options.kind != OptimizerKind::sgd)
    throw_input_error("--nesterov with --optimizer sgd", fmt::format("--optimizer {}", name_of(options.kind)),
                      "leave it out, or take another optimizer");
  if (options.nesterov && (options.momentum == 0 || options.dampening != 0))
    throw_input_error("a --momentum above 0 and no --dampening with --nesterov",
                      fmt::format("momentum {}, dampening {}", options.momentum, options.dampening),
                      "add --momentum 0.9");
  const LossScaleOptions& scale = options.loss_scale;
  if (scale.enabled && !(scale.lowest() <= scale.initial && scale.initial <= scale.highest()))
    throw_input_error(fmt::format("--loss-scale from {} to {}, its bounds", scale.lowest(), scale.highest()),
                      fmt::format("{}", scale.initial), "change --loss-scale, --loss-scale-min or --loss-scale-max");
}

}  // namespace halfstep
