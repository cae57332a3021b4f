// Metrics of how far outputs are from numbers.
#include <cmath>

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
       .value = mean},
      {.name = "mse",
       .meaning = "mean squared error",
       .takes = takes_elements,
       .needs = kElements,
       .smaller_is_better = true,
       .add = add_squared_error,
       .value = mean},
  };
}

}  // namespace halfstep
