#include "training/term_weights.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include <halfstep/training/label_reading.h>

namespace halfstep {

TermWeights::TermWeights(const LossOptions& loss, const LossInputs& inputs, std::span<const TermReading> readings)
    : terms_(std::max<std::size_t>(1, readings.size())), weights_(terms_.size()) {
  for (std::size_t i = 0; i < readings.size(); ++i) {
    const LossTerm& term = loss.terms[i];
    terms_[i].is_sum = term.reduction == LossReduction::sum;
    if (readings[i].row) terms_[i].labels = place_in(inputs.labels, term.labels);
    terms_[i].sample_weights = place_in(inputs.sample_weights, term.sample_weights);
    terms_[i].reading = readings[i].reading;
    terms_[i].class_weights = term.class_weights;
  }
}

std::span<const double> TermWeights::of(const FittedBatch& batch) {
  const Shape& first = batch.x.at(0).shape();
  const std::int64_t rows = first.rank() == 0 ? 1 : first[0];
  for (std::size_t i = 0; i < terms_.size(); ++i) weights_[i] = weight(terms_[i], batch, rows);
  return weights_;
}

double TermWeights::weight(const Term& term, const FittedBatch& batch, std::int64_t rows) {
  if (term.is_sum) return 1;
  const Tensor* samples = term.sample_weights ? &batch.sample_weights.at(*term.sample_weights) : nullptr;
  if (term.labels)
    return weight_of_labels(term.reading, batch.labels.at(*term.labels), rows, term.class_weights, samples);
  if (!samples) return static_cast<double>(rows);
  const std::span<const float> all = samples->span<float>();
  return std::accumulate(all.begin(), all.end(), 0.0);
}

}  // namespace halfstep
