#include "training/term_weights.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>

#include <halfstep/training/label_reading.h>

namespace halfstep {
namespace {

const Tensor* find(const std::vector<std::string>& names, const std::string& name, const std::vector<Tensor>& tensors) {
  const auto at = std::ranges::find(names, name);
  return at == names.end() ? nullptr : &tensors[static_cast<std::size_t>(at - names.begin())];
}

}  // namespace

std::vector<double> term_weights(const LossOptions& loss, const LossInputs& inputs,
                                 std::span<const TermReading> readings, const FittedBatch& batch) {
  const Shape& first = batch.x.at(0).shape();
  const std::int64_t rows = first.rank() == 0 ? 1 : first[0];
  std::vector<double> weights(std::max<std::size_t>(1, loss.terms.size()), static_cast<double>(rows));
  for (std::size_t i = 0; i < loss.terms.size(); ++i) {
    const LossTerm& term = loss.terms[i];
    const Tensor* labels = find(inputs.labels, term.labels, batch.labels);
    const Tensor* samples = find(inputs.sample_weights, term.sample_weights, batch.sample_weights);
    if (term.reduction == LossReduction::sum) {
      weights[i] = 1;
    } else if (i < readings.size() && readings[i].row && labels) {
      weights[i] = weight_of_labels(readings[i].reading, *labels, rows, term.class_weights, samples);
    } else if (samples) {
      const std::span<const float> all = samples->span<float>();
      weights[i] = std::accumulate(all.begin(), all.end(), 0.0);
    }
  }
  return weights;
}

}  // namespace halfstep
