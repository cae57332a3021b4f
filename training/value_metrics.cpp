// Metrics of how far outputs are from numbers.
#include <algorithm>
#include <cmath>
#include <limits>

#include "training/metric_samples.h"

namespace halfstep {
namespace {

using Tally = Metrics::Tally;

void add_absolute_error(Tally& tally, const Metric&, const MetricSample& sample) {
  for_each_element(sample, [&](double output, double target, std::int64_t, double weight) {
    tally.sum += weight * std::abs(output - target);
    tally.weight += weight;
  });
}

void add_squared_error(Tally& tally, const Metric&, const MetricSample& sample) {
  for_each_element(sample, [&](double output, double target, std::int64_t, double weight) {
    tally.sum += weight * (output - target) * (output - target);
    tally.weight += weight;
  });
}

double mean(const Tally& tally, const Metric&) { return tally.sum / tally.weight; }

double root_mean(const Tally& tally, const Metric& metric) { return std::sqrt(mean(tally, metric)); }

// Of each place of a row: the squared errors in `hits`, the mean of the labels, and in `outputs` the labels' squared
// distances from it. One pass by the mean of those before loses no digits where labels are far from 0.
void add_explained(Tally& tally, const Metric&, const MetricSample& sample) {
  const auto places = sample.output.count() / sample.output.shape()[0];
  for (std::vector<double>* sums : {&tally.hits, &tally.labels, &tally.outputs, &tally.weights})
    sums->resize(static_cast<std::size_t>(places));
  for_each_element(sample, [&](double output, double target, std::int64_t at, double weight) {
    if (weight == 0) return;
    const auto place = static_cast<std::size_t>(at % places);
    const double before = target - tally.labels[place];
    tally.weight += weight;
    tally.weights[place] += weight;
    tally.hits[place] += weight * (output - target) * (output - target);
    tally.labels[place] += before * weight / tally.weights[place];
    tally.outputs[place] += weight * before * (target - tally.labels[place]);
  });
}

// Of two sets of labels, by Chan, Golub and LeVeque: the distances of their means count as well.
void merge_explained(Tally& tally, const Tally& other) {
  const std::size_t places = other.hits.size();
  for (const std::vector<double>* sums : {&other.labels, &other.outputs, &other.weights})
    if (sums->size() != places) throw_input_error("sums of r2 for the same places", "other numbers of them", "");
  for (std::vector<double>* sums : {&tally.hits, &tally.labels, &tally.outputs, &tally.weights})
    sums->resize(std::max(sums->size(), places));
  tally.weight += other.weight;
  for (std::size_t i = 0; i < places; ++i) {
    if (other.weights[i] == 0) continue;
    const double all = tally.weights[i] + other.weights[i], share = other.weights[i] / all,
                 apart = other.labels[i] - tally.labels[i];
    tally.hits[i] += other.hits[i];
    tally.outputs[i] += other.outputs[i] + apart * apart * tally.weights[i] * share;
    tally.labels[i] += apart * share;
    tally.weights[i] = all;
  }
}

// A place whose labels are all the same does not count.
double explained(const Tally& tally, const Metric&) {
  double sum = 0, places = 0;
  for (std::size_t i = 0; i < tally.hits.size(); ++i) {
    if (tally.outputs[i] == 0) continue;
    sum += 1 - tally.hits[i] / tally.outputs[i];
    ++places;
  }
  return places == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / places;
}

bool takes_elements(const LabelReading& reading, std::int64_t) { return reading.form != LabelReading::Form::classes; }

constexpr std::string_view kElements = "a label for each element of the output";

}  // namespace

std::vector<MetricDef> value_metrics() {
  return {
      {.name = "mae",
       .meaning = "mean absolute error",
       .takes = takes_elements,
       .needs = kElements,
       .smaller_is_better = true,
       .add = add_absolute_error,
       .merge = add_sums,
       .value = mean},
      {.name = "mse",
       .meaning = "mean squared error",
       .takes = takes_elements,
       .needs = kElements,
       .smaller_is_better = true,
       .add = add_squared_error,
       .merge = add_sums,
       .value = mean},
      {.name = "rmse",
       .meaning = "root of the mean squared error",
       .takes = takes_elements,
       .needs = kElements,
       .smaller_is_better = true,
       .add = add_squared_error,
       .merge = add_sums,
       .value = root_mean},
      {.name = "r2",
       .meaning = "share of the labels' variance that the outputs explain, averaged over the elements of a row",
       .takes = takes_elements,
       .needs = kElements,
       .add = add_explained,
       .merge = merge_explained,
       .value = explained},
  };
}

}  // namespace halfstep
