#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/parse_number.h"
#include "training/metric_samples.h"
#include <halfstep/base/error.h>
#include <halfstep/training/metric_def.h>
#include <halfstep/training/metrics.h>

namespace halfstep {
namespace {

/// "top_k:K"; with what may be left out in brackets.
std::string form_of(const MetricDef& row) {
  if (row.number.name.empty()) return std::string(row.name);
  return fmt::format("{}[:{}]", row.name, row.number.name);
}

Metric parse_metric(std::string_view text) {
  const std::size_t point = text.rfind('.');
  const std::string of(point == std::string_view::npos ? "" : text.substr(0, point));
  const std::string_view own = point == std::string_view::npos ? text : text.substr(point + 1);
  const std::size_t colon = own.find(':');
  const std::string_view name = own.substr(0, colon);
  const auto row = std::ranges::find(all_metrics(), name, &MetricDef::name);
  const auto refuse = [&] {
    throw_input_error("a metric: " + metric_forms(), fmt::format("'{}'", text), "check --metrics");
  };
  if (row == all_metrics().end()) refuse();
  const MetricNumber& number = row->number;
  Metric metric{&*row, number.fallback, of};
  if (colon == std::string_view::npos) return metric;
  const auto given = parse_number<decltype(metric.number)>(own.substr(colon + 1));
  if (number.name.empty() || !given) refuse();
  metric.number = *given;
  if (metric.number < number.lowest)
    throw_input_error(fmt::format("{} of at least {} in {}", number.name, number.lowest, form_of(*row)),
                      fmt::format("{}", metric.number), "check --metrics");
  return metric;
}

}  // namespace

std::span<const MetricDef> all_metrics() {
  static const std::vector<MetricDef> rows = [] {
    std::vector<MetricDef> all = class_metrics();
    for (MetricDef& row : value_metrics()) all.push_back(std::move(row));
    return all;
  }();
  return rows;
}

std::string Metric::name() const {
  const std::string before = of.empty() ? "" : of + ".";
  if (row->number.name.empty() || number < row->number.lowest) return fmt::format("{}{}", before, row->name);
  return fmt::format("{}{}:{}", before, row->name, number);
}

std::string metric_forms() {
  std::vector<std::string> forms;
  for (const MetricDef& row : all_metrics()) forms.push_back(form_of(row));
  return fmt::format("{}", fmt::join(forms, ", "));
}

std::string describe_metrics() {
  std::vector<std::string> lines;
  for (const MetricDef& row : all_metrics()) lines.push_back(fmt::format("{}: {}", form_of(row), row.meaning));
  return fmt::format("{}", fmt::join(lines, "\n"));
}

std::vector<Metric> parse_metrics(std::string_view text) {
  std::vector<Metric> metrics;
  if (text.empty()) return metrics;
  for (;;) {
    const std::size_t comma = text.find(',');
    metrics.push_back(parse_metric(text.substr(0, comma)));
    if (std::count(metrics.begin(), metrics.end(), metrics.back()) > 1)
      throw_input_error("each metric once", fmt::format("'{}' twice", metrics.back().name()), "remove one");
    if (comma == std::string_view::npos) return metrics;
    text = text.substr(comma + 1);
  }
}

std::vector<Metric> default_metrics(const LossDef& loss, const LabelReading& reading) {
  std::vector<Metric> metrics;
  for (const MetricDef& row : all_metrics())
    if (row.is_default && row.is_default(loss, reading)) metrics.push_back({&row, row.number.fallback, {}});
  return metrics;
}

void check_metrics(const std::vector<Metric>& metrics, const LabelReading& reading, std::int64_t classes,
                   const std::string& found) {
  if (reading.form == LabelReading::Form::binary) classes = 2;
  for (const Metric& metric : metrics) {
    const MetricDef& row = *metric.row;
    if (!row.takes(reading, classes)) {
      std::vector<std::string_view> others;
      for (const MetricDef& other : all_metrics())
        if (other.takes(reading, classes)) others.push_back(other.name);
      throw_input_error(fmt::format("{} for the metric {}", row.needs, metric.name()), found,
                        fmt::format("choose others with --metrics ({})", fmt::join(others, ", ")));
    }
    if (row.number.is_class && metric.number >= classes)
      throw_input_error(fmt::format("a class from 0 to {} for the metric {}", classes - 1, row.name), metric.name(),
                        "check --metrics");
  }
}

void check_are_numbers(const std::vector<Metric>& metrics) {
  for (const Metric& metric : metrics)
    if (!metric.row->value)
      throw_input_error("scalar metrics, to follow while training", metric.name(),
                        "omit it, and measure the trained model with halfstep evaluate");
}

Metrics::Metrics(std::vector<Metric> metrics, LabelReading reading) { add_term(std::move(metrics), reading); }

void Metrics::add_term(std::vector<Metric> metrics, LabelReading reading) {
  terms_.insert(terms_.end(), metrics.size(), readings_.size());
  readings_.push_back(reading);
  for (Metric& metric : metrics) metrics_.push_back(std::move(metric));
  tallies_.resize(metrics_.size());
}

void Metrics::add(const Tensor& output, const Tensor& labels, std::size_t term, const Tensor* weights) {
  if (output.count() == 0) return;
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    if (terms_[i] != term) continue;
    const MetricDef& row = *metrics_[i].row;
    row.add(tallies_[i], metrics_[i], {output, labels, readings_[term], weights});
  }
}

double Metrics::value(std::size_t i) const {
  const MetricDef& row = *metrics_[i].row;
  return tallies_[i].weight == 0 || !row.value ? std::numeric_limits<double>::quiet_NaN()
                                               : row.value(tallies_[i], metrics_[i]);
}

const ClassTable* Metrics::table(std::size_t i) const { return metrics_[i].row->value ? nullptr : &tallies_[i].table; }

void Metrics::reset() {
  for (Tally& tally : tallies_) {
    tally.sum = tally.weight = 0;
    for (std::vector<double>* counts : {&tally.hits, &tally.labels, &tally.outputs, &tally.weights})
      std::fill(counts->begin(), counts->end(), 0);
    std::fill(tally.table.counts.begin(), tally.table.counts.end(), 0);
    tally.auc.reset();
  }
}

namespace {

const std::vector<std::pair<std::string_view, std::vector<double> Metrics::Tally::*>> kCounts{
    {"hits", &Metrics::Tally::hits},
    {"labels", &Metrics::Tally::labels},
    {"outputs", &Metrics::Tally::outputs},
    {"weights", &Metrics::Tally::weights}};

// Of an AUC: names in a state.
constexpr std::string_view kScores = "{} scores of {:d}", kWeights = "{} weights of {:d}";
constexpr const char* kTable = " table";

std::vector<double> numbers_in(const NamedTensors& state, const std::string& name, std::size_t least = 0) {
  const auto at = state.find(name);
  if (at == state.end() && least == 0) return {};
  if (at == state.end() || at->second.dtype() != DType::f64 || at->second.count() < static_cast<std::int64_t>(least))
    throw_input_error(fmt::format("the sums '{}' of a metric", name), "none that a run has kept", "");
  const auto numbers = at->second.span<double>();
  return {numbers.begin(), numbers.end()};
}

void add_table(ClassTable& table, const NamedTensors& state, const std::string& name) {
  const std::vector<double> more = numbers_in(state, name);
  if (more.empty()) return;
  const Shape& shape = state.at(name).shape();
  if (shape.rank() != 2 || shape[1] != shape[0] + 1 || (table.classes != 0 && table.classes != shape[0]))
    throw_input_error(fmt::format("a table of the same classes in the sums '{}' of a metric", name), shape.to_string(),
                      "");
  table.classes = shape[0];
  table.counts.resize(more.size());
  std::ranges::transform(more, table.counts, table.counts.begin(), std::plus<>());
}

}  // namespace

void add_sums(Metrics::Tally& tally, const Metrics::Tally& other) {
  tally.sum += other.sum;
  tally.weight += other.weight;
  for (const auto& [what, counts] : kCounts) {
    std::vector<double>& own = tally.*counts;
    const std::vector<double>& more = other.*counts;
    own.resize(std::max(own.size(), more.size()));
    std::ranges::transform(more, own, own.begin(), std::plus<>());
  }
}

NamedTensors Metrics::state() const {
  NamedTensors state;
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    const std::string name = metrics_[i].name();
    const Tally& tally = tallies_[i];
    state[name] = Tensor::of<double>({tally.sum, tally.weight, tally.auc.is_nan() ? 1.0 : 0.0});
    for (const auto& [what, counts] : kCounts)
      if (!(tally.*counts).empty()) state[fmt::format("{} {}", name, what)] = Tensor::of<double>(tally.*counts);
    for (const bool label : {false, true})
      for (const auto& [form, numbers] :
           {std::pair(kScores, tally.auc.scores(label)), std::pair(kWeights, tally.auc.weights(label))})
        if (!numbers.empty()) state[fmt::format(fmt::runtime(form), name, label)] = Tensor::of<double>(numbers);
    if (const std::int64_t classes = tally.table.classes; classes > 0)
      state[name + kTable] = Tensor::of<double>(tally.table.counts, Shape{classes, classes + 1});
  }
  return state;
}

void Metrics::load_state(const NamedTensors& state) {
  reset();
  add_state(state);
}

void Metrics::add_state(const NamedTensors& state) {
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    const std::string name = metrics_[i].name();
    if (!state.contains(name)) continue;
    Tally& tally = tallies_[i];
    const std::vector<double> sums = numbers_in(state, name, 3);
    Tally other;
    other.sum = sums[0];
    other.weight = sums[1];
    for (const auto& [what, counts] : kCounts) other.*counts = numbers_in(state, fmt::format("{} {}", name, what));
    metrics_[i].row->merge(tally, other);
    add_table(tally.table, state, name + kTable);
    for (const bool label : {false, true}) {
      const std::vector<double> scores = numbers_in(state, fmt::format(fmt::runtime(kScores), name, label));
      std::vector<double> weights = numbers_in(state, fmt::format(fmt::runtime(kWeights), name, label));
      if (weights.empty()) weights.resize(scores.size(), 1);
      if (weights.size() != scores.size())
        throw_input_error(fmt::format("as many weights as scores of a metric '{}'", name), "others", "");
      for (std::size_t s = 0; s < scores.size(); ++s) tally.auc.add(scores[s], label, weights[s]);
    }
    if (sums[2] != 0) tally.auc.add(std::numeric_limits<double>::quiet_NaN(), false);
  }
}

}  // namespace halfstep
