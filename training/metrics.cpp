#include "training/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "graph/error.h"
#include "graph/visit.h"
#include "training/wide.h"

namespace halfstep {
namespace {

using Form = LabelReading::Form;
using Tally = Metrics::Tally;

constexpr std::int64_t kDefaultK = 5;

/// One batch.
struct Sample {
  const Tensor& output;
  const Tensor& labels;
  const LabelReading& reading;
};

[[noreturn]] void refuse_shapes(const char* required, const Sample& sample) {
  throw_input_error(
      required,
      fmt::format("labels {}{} for output {}{}", name_of(sample.labels.dtype()), sample.labels.shape().to_string(),
                  name_of(sample.output.dtype()), sample.output.shape().to_string()),
      "check the labels, or choose another metric");
}

template <class F>
void visit_output(const Tensor& output, F&& f) {
  switch (output.dtype()) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<f16>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f64:
      return f.template operator()<double>();
    default:
      throw_input_error("a floating-point output to measure", std::string(name_of(output.dtype())),
                        "choose another output");
  }
}

/// A point's outputs, or its one-hot labels: one for each class.
template <class T>
struct Scores {
  const T* first;
  std::int64_t classes, step;

  auto operator[](std::int64_t c) const { return wide(first[c * step]); }

  /// The class of the largest one, the first of equal ones; -1 when all are NaN.
  std::int64_t largest() const {
    std::int64_t best = -1;
    for (std::int64_t c = 0; c < classes; ++c) {
      const auto score = (*this)[c];
      if (!std::isnan(static_cast<double>(score)) && (best < 0 || score > (*this)[best])) best = c;
    }
    return best;
  }
  /// How many come before that of `label`: the larger ones, and equal ones of a lower class.
  std::int64_t rank_of(std::int64_t label) const {
    const auto score = (*this)[label];
    if (std::isnan(static_cast<double>(score))) return classes;
    std::int64_t rank = 0;
    for (std::int64_t c = 0; c < classes; ++c) rank += (*this)[c] > score || (c < label && (*this)[c] == score);
    return rank;
  }
};

/// visit(scores, label) for every point that counts.
template <class Visit>
void for_each_point(const Sample& sample, const Visit& visit) {
  const Shape& shape = sample.output.shape();
  const std::size_t axis = sample.reading.class_axis;
  const bool one_hot = sample.reading.form == Form::one_hot;
  if (axis >= shape.rank()) refuse_shapes("an output with a class axis", sample);
  const std::int64_t classes = shape[axis], inner = shape.count(axis + 1, shape.rank());
  const std::int64_t points = shape.count(0, axis) * inner;
  const bool integer = is_integer(sample.labels.dtype()) || sample.labels.dtype() == DType::boolean;
  if (one_hot ? sample.labels.count() != sample.output.count() : sample.labels.count() != points || !integer)
    refuse_shapes(one_hot ? "one-hot labels of the output's shape" : "one class index for each point of the output",
                  sample);
  const std::int64_t ignored = sample.reading.ignored.value_or(-1);
  visit_output(sample.output, [&]<class T>() {
    visit_dtype(sample.labels.dtype(), [&]<class L>() {
      for (std::int64_t p = 0; p < points; ++p) {
        const std::int64_t first = p / inner * classes * inner + p % inner;
        std::int64_t label = 0;
        if (one_hot) {
          label = std::max<std::int64_t>(Scores<L>{sample.labels.data<L>() + first, classes, inner}.largest(), 0);
        } else {
          label = static_cast<std::int64_t>(wide(sample.labels.data<L>()[p]));
          if (sample.reading.ignored && label == ignored) continue;
          if (label < 0 || label >= classes)
            throw_input_error(fmt::format("class labels in [0, {})", classes), fmt::format("{} at point {}", label, p),
                              "check the labels, the number of classes of the model, and --ignore-label");
        }
        visit(Scores<T>{sample.output.data<T>() + first, classes, inner}, label);
      }
    });
  });
}

/// visit(output, label) for every element, both as double.
template <class Visit>
void for_each_element(const Sample& sample, const Visit& visit) {
  if (sample.labels.count() != sample.output.count()) refuse_shapes("one label for each output", sample);
  visit_output(sample.output, [&]<class T>() {
    visit_dtype(sample.labels.dtype(), [&]<class L>() {
      for (std::int64_t i = 0; i < sample.output.count(); ++i)
        visit(static_cast<double>(wide(sample.output.data<T>()[i])),
              static_cast<double>(wide(sample.labels.data<L>()[i])));
    });
  });
}

/// visit(class of the output or -1, label) for every element.
template <class Visit>
void for_each_binary(const Sample& sample, const Visit& visit) {
  std::int64_t at = 0;
  for_each_element(sample, [&](double score, double label) {
    if (label != 0 && label != 1)
      throw_input_error("labels of 0 or 1", fmt::format("{} at element {}", label, at), "check the labels");
    ++at;
    visit(std::isnan(score) ? -1 : static_cast<std::int64_t>(score > sample.reading.binary_threshold),
          static_cast<std::int64_t>(label));
  });
}

void add_accuracy(Tally& tally, const Metric&, const Sample& sample) {
  const auto count = [&](bool hit) {
    tally.sum += hit;
    ++tally.weight;
  };
  if (sample.reading.form == Form::binary)
    for_each_binary(sample, [&](std::int64_t guess, std::int64_t label) { count(guess == label); });
  else
    for_each_point(sample, [&](const auto& scores, std::int64_t label) { count(scores.rank_of(label) == 0); });
}

void add_top_k(Tally& tally, const Metric& metric, const Sample& sample) {
  for_each_point(sample, [&](const auto& scores, std::int64_t label) {
    tally.sum += scores.rank_of(label) < metric.k;
    ++tally.weight;
  });
}

void add_overlaps(Tally& tally, const Metric&, const Sample& sample) {
  const bool binary = sample.reading.form == Form::binary;
  const Shape& shape = sample.output.shape();
  if (tally.hits.empty() && (binary || sample.reading.class_axis < shape.rank())) {
    const auto classes = static_cast<std::size_t>(binary ? 2 : shape[sample.reading.class_axis]);
    tally.hits.resize(classes);
    tally.unions.resize(classes);
  }
  const auto count = [&](std::int64_t guess, std::int64_t label) {
    ++tally.weight;
    tally.hits[static_cast<std::size_t>(label)] += guess == label;
    ++tally.unions[static_cast<std::size_t>(label)];
    if (guess >= 0 && guess != label) ++tally.unions[static_cast<std::size_t>(guess)];
  };
  if (binary)
    for_each_binary(sample, count);
  else
    for_each_point(sample, [&](const auto& scores, std::int64_t label) { count(scores.largest(), label); });
}

void add_absolute_error(Tally& tally, const Metric&, const Sample& sample) {
  for_each_element(sample, [&](double output, double target) { tally.sum += std::abs(output - target); });
  tally.weight += static_cast<double>(sample.output.count());
}

void add_squared_error(Tally& tally, const Metric&, const Sample& sample) {
  for_each_element(sample, [&](double output, double target) { tally.sum += (output - target) * (output - target); });
  tally.weight += static_cast<double>(sample.output.count());
}

double mean(const Tally& tally) { return tally.sum / tally.weight; }

double mean_overlap(const Tally& tally) {
  double sum = 0, classes = 0;
  for (std::size_t c = 0; c < tally.unions.size(); ++c) {
    if (tally.unions[c] == 0) continue;
    sum += static_cast<double>(tally.hits[c]) / static_cast<double>(tally.unions[c]);
    ++classes;
  }
  return sum / classes;
}

bool takes_classes(Form form) { return form != Form::values; }
bool takes_several_classes(Form form) { return form == Form::classes || form == Form::one_hot; }
bool takes_elements(Form form) { return form != Form::classes; }

constexpr const char* kClasses = "class indices, one-hot labels, or labels of 0 and 1";
constexpr const char* kSeveralClasses = "class indices or one-hot labels";
constexpr const char* kElements = "a label for each element of the output";

/// A metric.
struct MetricRow {
  Metric::Kind kind;
  std::string_view name;
  bool has_k;
  bool (*takes)(Form);
  const char* needs;  ///< what `takes` takes, for people
  void (*add)(Tally&, const Metric&, const Sample&);
  double (*value)(const Tally&);
};
constexpr MetricRow kMetrics[] = {
    {Metric::Kind::accuracy, "accuracy", false, takes_classes, kClasses, add_accuracy, mean},
    {Metric::Kind::top_k, "top_k", true, takes_several_classes, kSeveralClasses, add_top_k, mean},
    {Metric::Kind::mean_iou, "mean_iou", false, takes_classes, kClasses, add_overlaps, mean_overlap},
    {Metric::Kind::mae, "mae", false, takes_elements, kElements, add_absolute_error, mean},
    {Metric::Kind::mse, "mse", false, takes_elements, kElements, add_squared_error, mean},
};

const MetricRow& row_of(Metric::Kind kind) {
  return *std::find_if(std::begin(kMetrics), std::end(kMetrics),
                       [&](const MetricRow& row) { return row.kind == kind; });
}

Metric parse_metric(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const auto* row =
      std::find_if(std::begin(kMetrics), std::end(kMetrics), [&](const MetricRow& r) { return r.name == name; });
  const auto refuse = [&] {
    throw_input_error("a metric: " + metric_forms() + ", K of at least 1", fmt::format("'{}'", text),
                      "check --metrics");
  };
  if (row == std::end(kMetrics)) refuse();
  Metric metric{row->kind, row->has_k ? kDefaultK : 0};
  if (colon == std::string_view::npos) return metric;
  const std::string_view k = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(k.data(), k.data() + k.size(), metric.k);
  if (!row->has_k || error != std::errc() || end != k.data() + k.size() || metric.k < 1) refuse();
  return metric;
}

}  // namespace

std::string Metric::name() const {
  const MetricRow& row = row_of(kind);
  return row.has_k ? fmt::format("{}:{}", row.name, k) : std::string(row.name);
}

std::string metric_forms() {
  std::string forms;
  for (const MetricRow& row : kMetrics)
    forms += fmt::format("{}{}{}", forms.empty() ? "" : ", ", row.name, row.has_k ? ":K" : "");
  return forms;
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

void check_metrics(const std::vector<Metric>& metrics, const LabelReading& reading, const std::string& found) {
  for (const Metric& metric : metrics) {
    const MetricRow& row = row_of(metric.kind);
    if (row.takes(reading.form)) continue;
    std::string others;
    for (const MetricRow& other : kMetrics)
      if (other.takes(reading.form)) others += (others.empty() ? "" : ", ") + std::string(other.name);
    throw_input_error(fmt::format("{} for the metric {}", row.needs, metric.name()), found,
                      fmt::format("choose others with --metrics ({})", others));
  }
}

Metrics::Metrics(std::vector<Metric> metrics, LabelReading reading)
    : metrics_(std::move(metrics)), reading_(reading), tallies_(metrics_.size()) {}

void Metrics::add(const Tensor& output, const Tensor& labels) {
  if (output.count() == 0) return;
  for (std::size_t i = 0; i < metrics_.size(); ++i)
    row_of(metrics_[i].kind).add(tallies_[i], metrics_[i], {output, labels, reading_});
}

double Metrics::value(std::size_t i) const {
  return tallies_[i].weight == 0 ? std::numeric_limits<double>::quiet_NaN()
                                 : row_of(metrics_[i].kind).value(tallies_[i]);
}

void Metrics::reset() {
  for (Tally& tally : tallies_) {
    tally.sum = tally.weight = 0;
    std::fill(tally.hits.begin(), tally.hits.end(), 0);
    std::fill(tally.unions.begin(), tally.unions.end(), 0);
  }
}

}  // namespace halfstep
