// Metrics of which class an output takes a point for.
#include <limits>

#include "training/metric_samples.h"

namespace halfstep {
namespace {

using Form = LabelReading::Form;
using Tally = Metrics::Tally;

// Of equal outputs the first counts as the largest. Of binary labels: the share of elements on the label's side of the
// threshold.
void add_accuracy(Tally& tally, const Metric&, const MetricSample& sample) {
  const auto count = [&](bool hit, double weight) {
    tally.sum += hit ? weight : 0;
    tally.weight += weight;
  };
  if (sample.reading.form == Form::binary)
    for_each_guess(sample,
                   [&](std::int64_t guess, std::int64_t label, double weight) { count(guess == label, weight); });
  else  // faster than to look for the largest
    for_each_point(
        sample, [&](const auto& scores, std::int64_t label, double weight) { count(scores.is_first(label), weight); });
}

// Of equal outputs the first counts as larger.
void add_top_k(Tally& tally, const Metric& metric, const MetricSample& sample) {
  for_each_point(sample, [&](const auto& scores, std::int64_t label, double weight) {
    tally.sum += scores.rank_of(label) < metric.number ? weight : 0;
    tally.weight += weight;
  });
}

void add_by_class(Tally& tally, const Metric&, const MetricSample& sample) {
  for (std::vector<double>* counts : {&tally.hits, &tally.labels, &tally.outputs})
    counts->resize(static_cast<std::size_t>(classes_of(sample)));
  for_each_guess(sample, [&](std::int64_t guess, std::int64_t label, double weight) {
    tally.weight += weight;
    if (guess == label) tally.hits[label] += weight;
    tally.labels[label] += weight;
    if (guess >= 0) tally.outputs[guess] += weight;
  });
}

void add_to_table(Tally& tally, const Metric&, const MetricSample& sample) {
  const std::int64_t classes = classes_of(sample);
  tally.table.classes = classes;
  tally.table.counts.resize(static_cast<std::size_t>(classes * (classes + 1)));
  for_each_guess(sample, [&](std::int64_t guess, std::int64_t label, double weight) {
    tally.weight += weight;
    tally.table.counts[label * (classes + 1) + (guess < 0 ? classes : guess)] += weight;
  });
}

void add_to_curve(Tally& tally, const Metric&, const MetricSample& sample) {
  const auto add = [&](double score, std::int64_t label, double weight) {
    tally.weight += weight;
    tally.auc.add(score, label == 1, weight);
  };
  if (sample.reading.form == Form::binary) return for_each_binary_score(sample, add);
  for_each_point(sample, [&](const auto& scores, std::int64_t label, double weight) {
    add(static_cast<double>(scores[1]) - static_cast<double>(scores[0]), label, weight);
  });
}

double mean(const Tally& tally, const Metric&) { return tally.sum / tally.weight; }

/// The mean of each(hits, labels, outputs) over the classes that are labels or outputs of some point.
template <class Each>
double mean_over_classes(const Tally& tally, const Each& each) {
  double sum = 0, classes = 0;
  for (std::size_t c = 0; c < tally.hits.size(); ++c) {
    if (tally.labels[c] + tally.outputs[c] == 0) continue;
    sum += each(tally.hits[c], tally.labels[c], tally.outputs[c]);
    ++classes;
  }
  return sum / classes;
}

double mean_overlap(const Tally& tally, const Metric&) {
  return mean_over_classes(tally,
                           [](double hits, double labels, double outputs) { return hits / (labels + outputs - hits); });
}

double f1_of(double hits, double labels, double outputs) { return 2 * hits / (labels + outputs); }

// Of a class that no point has as label or output: NaN.
double f1(const Tally& tally, const Metric& metric) {
  if (metric.number < 0) return mean_over_classes(tally, f1_of);
  const auto c = static_cast<std::size_t>(metric.number);
  if (c >= tally.hits.size() || tally.labels[c] + tally.outputs[c] == 0)
    return std::numeric_limits<double>::quiet_NaN();
  return f1_of(tally.hits[c], tally.labels[c], tally.outputs[c]);
}

// Equal outputs count half. NaN where a class is missing or an output is NaN.
double area_under_curve(const Tally& tally, const Metric&) { return tally.auc.value(); }

constexpr std::int64_t kMostClassesOfATable = 4096;

bool takes_classes(const LabelReading& reading, std::int64_t) { return reading.form != Form::values; }
bool takes_several_classes(const LabelReading& reading, std::int64_t) {
  return reading.form == Form::classes || reading.form == Form::one_hot;
}
bool takes_table(const LabelReading& reading, std::int64_t classes) {
  return reading.form != Form::values && classes <= kMostClassesOfATable;
}
bool takes_two_classes(const LabelReading& reading, std::int64_t classes) {
  return reading.form == Form::binary || (reading.form != Form::values && classes == 2);
}

constexpr std::string_view kClasses = "class indices, one-hot labels, or labels of 0 and 1";
constexpr std::string_view kSeveralClasses = "class indices or one-hot labels";
constexpr std::string_view kTwoClasses = "labels of 0 and 1, or of two classes";
constexpr std::string_view kTableClasses =
    "class indices, one-hot labels, or labels of 0 and 1, of at most 4096 classes";

bool is_of_class_loss(const LossDef& loss, const LabelReading& reading) {
  return loss.along == "classes" || (loss.labels == LossLabels::binary && reading.form == Form::binary);
}

}  // namespace

std::vector<MetricDef> class_metrics() {
  return {
      {.name = "accuracy",
       .meaning = "fraction of points whose largest output is at the label",
       .takes = takes_classes,
       .needs = kClasses,
       .add = add_accuracy,
       .merge = add_sums,
       .value = mean,
       .is_default = is_of_class_loss},
      {.name = "top_k",
       .meaning = "fraction of points whose label is among the K (5) largest outputs",
       .number = {.name = "K", .lowest = 1, .fallback = 5},
       .takes = takes_several_classes,
       .needs = kSeveralClasses,
       .add = add_top_k,
       .merge = add_sums,
       .value = mean},
      {.name = "mean_iou",
       .meaning = "mean intersection over union of the classes",
       .takes = takes_classes,
       .needs = kClasses,
       .add = add_by_class,
       .merge = add_sums,
       .value = mean_overlap},
      {.name = "f1",
       .meaning = "F1 of class C, or the mean of all classes (macro)",
       .number = {.name = "C", .lowest = 0, .fallback = -1, .is_class = true},
       .takes = takes_classes,
       .needs = kClasses,
       .add = add_by_class,
       .merge = add_sums,
       .value = f1},
      {.name = "auc",
       .meaning = "area under the ROC curve of two classes",
       .takes = takes_two_classes,
       .needs = kTwoClasses,
       .add = add_to_curve,
       .merge = add_sums,
       .value = area_under_curve},
      {.name = "confusion",
       .meaning = "confusion matrix of labels and predictions; evaluate only",
       .takes = takes_table,
       .needs = kTableClasses,
       .add = add_to_table,
       .merge = add_sums},
  };
}

}  // namespace halfstep
