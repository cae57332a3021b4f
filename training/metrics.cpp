#include "training/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "graph/error.h"
#include "graph/visit.h"

namespace halfstep {
namespace {

constexpr std::int64_t kDefaultK = 5;

constexpr std::pair<std::string_view, Metric::Kind> kNames[] = {
    {"accuracy", Metric::Kind::accuracy},
    {"top_k", Metric::Kind::top_k},
    {"mae", Metric::Kind::mae},
    {"mse", Metric::Kind::mse},
};

Metric parse_metric(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const auto* row = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& r) { return r.first == name; });
  if (row == std::end(kNames))
    throw_input_error("a metric: accuracy, top_k:K, mae, mse", fmt::format("'{}'", text), "correct the name");
  Metric metric{row->second, 0};
  if (metric.kind == Metric::Kind::top_k) metric.k = kDefaultK;
  if (colon == std::string_view::npos) return metric;
  const std::string_view k = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(k.data(), k.data() + k.size(), metric.k);
  if (metric.kind != Metric::Kind::top_k || error != std::errc() || end != k.data() + k.size() || metric.k < 1)
    throw_input_error("a metric: accuracy, top_k:K with K of at least 1, mae, mse", fmt::format("'{}'", text),
                      "correct the metric");
  return metric;
}

[[noreturn]] void refuse_shapes(const char* required, const Tensor& output, const Tensor& labels) {
  throw_input_error(required,
                    fmt::format("labels {}{} for output {}{}", name_of(labels.dtype()), labels.shape().to_string(),
                                name_of(output.dtype()), output.shape().to_string()),
                    "check the labels, or choose another metric");
}

/// f16 and bf16 as float, everything else as it is.
template <class T>
auto wide(T value) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)
    return static_cast<float>(value);
  else
    return value;
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

/// How many outputs of a row come before the one at `label`: the larger ones, and equal ones of a lower class.
template <class T>
std::int64_t rank_of(const T* row, std::int64_t classes, std::int64_t label) {
  const auto score = wide(row[label]);
  if (std::isnan(score)) return classes;
  std::int64_t rank = 0;
  for (std::int64_t c = 0; c < classes; ++c) rank += wide(row[c]) > score || (c < label && wide(row[c]) == score);
  return rank;
}

template <class L>
std::int64_t label_of(const L* labels, std::int64_t row, std::int64_t classes, bool one_hot) {
  if (one_hot) {
    const L* first = labels + row * classes;
    std::int64_t best = 0;
    for (std::int64_t c = 1; c < classes; ++c)
      if (wide(first[c]) > wide(first[best])) best = c;
    return best;
  }
  const auto label = static_cast<std::int64_t>(wide(labels[row]));
  if (label < 0 || label >= classes)
    throw_input_error(fmt::format("class labels in [0, {})", classes), fmt::format("{} at row {}", label, row),
                      "check the labels, or the number of classes of the model");
  return label;
}

/// Share of rows whose label has a rank below k.
double top_k(const Tensor& output, const Tensor& labels, std::int64_t k, std::int64_t classes) {
  const std::int64_t rows = output.count() / classes;
  const bool one_hot = labels.count() == output.count() && classes > 1;
  if (!one_hot && (labels.count() != rows || is_float(labels.dtype())))
    refuse_shapes("one class index a row of outputs, or one-hot labels", output, labels);
  std::int64_t hits = 0;
  visit_output(output, [&]<class T>() {
    visit_dtype(labels.dtype(), [&]<class L>() {
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t label = label_of(labels.data<L>(), r, classes, one_hot);
        hits += rank_of(output.data<T>() + r * classes, classes, label) < k;
      }
    });
  });
  return static_cast<double>(hits) / static_cast<double>(rows);
}

double binary_accuracy(const Tensor& output, const Tensor& labels, double threshold) {
  if (labels.count() != output.count()) refuse_shapes("one label of 0 or 1 for each output", output, labels);
  std::int64_t hits = 0;
  visit_output(output, [&]<class T>() {
    visit_dtype(labels.dtype(), [&]<class L>() {
      for (std::int64_t i = 0; i < output.count(); ++i) {
        const auto label = static_cast<double>(wide(labels.data<L>()[i]));
        if (label != 0 && label != 1)
          throw_input_error("labels of 0 or 1", fmt::format("{} at row {}", label, i), "check the labels");
        const auto score = static_cast<double>(wide(output.data<T>()[i]));
        hits += !std::isnan(score) && (score > threshold) == (label == 1);
      }
    });
  });
  return static_cast<double>(hits) / static_cast<double>(output.count());
}

double mean_error(const Tensor& output, const Tensor& targets, bool squared) {
  if (targets.count() != output.count()) refuse_shapes("one target for each output", output, targets);
  double sum = 0;
  visit_output(output, [&]<class T>() {
    visit_dtype(targets.dtype(), [&]<class L>() {
      for (std::int64_t i = 0; i < output.count(); ++i) {
        const double d =
            static_cast<double>(wide(output.data<T>()[i])) - static_cast<double>(wide(targets.data<L>()[i]));
        sum += squared ? d * d : std::abs(d);
      }
    });
  });
  return sum / static_cast<double>(output.count());
}

}  // namespace

std::string Metric::name() const {
  for (const auto& [text, row] : kNames)
    if (row == kind) return kind == Kind::top_k ? fmt::format("{}:{}", text, k) : std::string(text);
  return "";
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

Metrics::Metrics(std::vector<Metric> metrics, double binary_threshold)
    : metrics_(std::move(metrics)), means_(metrics_.size()), binary_threshold_(binary_threshold) {}

void Metrics::add(const Tensor& output, const Tensor& labels) {
  if (output.count() == 0) return;
  const std::int64_t classes = output.shape().rank() < 2 ? 1 : output.shape().dim(-1);
  const auto elements = static_cast<double>(output.count());
  const auto rows = elements / static_cast<double>(classes);
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    switch (metrics_[i].kind) {
      case Metric::Kind::accuracy:
        means_[i].add(
            classes == 1 ? binary_accuracy(output, labels, binary_threshold_) : top_k(output, labels, 1, classes),
            rows);
        break;
      case Metric::Kind::top_k:
        means_[i].add(top_k(output, labels, metrics_[i].k, classes), rows);
        break;
      case Metric::Kind::mae:
        means_[i].add(mean_error(output, labels, false), elements);
        break;
      case Metric::Kind::mse:
        means_[i].add(mean_error(output, labels, true), elements);
        break;
    }
  }
}

void Metrics::reset() { std::fill(means_.begin(), means_.end(), RunningMean()); }

}  // namespace halfstep
