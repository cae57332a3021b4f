// Softmax cross-entropy, ONNX's SoftmaxCrossEntropyLoss and the gradient of ai.halfstep. Scores are
// [batch, classes, inner], labels [batch, inner]; a label equal to `ignore_index`, or out of range, counts for nothing.
#pragma once

#include "executors/cudnn/kernels/softmax.h"

namespace halfstep::cudnn {

template <class T, class Label>
struct Labels {
  const Label* labels;
  const T* weights;  ///< one a class, or null
  std::int64_t classes;
  bool has_ignore;
  std::int64_t ignore_index;

  /// The class of a row, or -1 when it counts for nothing.
  HALFSTEP_HD std::int64_t class_of(std::int64_t row) const {
    const std::int64_t label = labels[row];
    if ((has_ignore && label == ignore_index) || label < 0 || label >= classes) return -1;
    return label;
  }
  HALFSTEP_HD float weight_of(std::int64_t label) const {
    return label < 0 ? 0.0f : weights ? load(weights[label]) : 1.0f;
  }
};

/// Per row: -weight * log softmax(scores)[label] to `losses` (f32), and log softmax to log_prob unless it is null.
template <class T, class Label>
struct CrossEntropyRows {
  using Accumulator = ScaledSum;
  static constexpr bool kWrites = true;

  const T* scores;
  Labels<T, Label> labels;
  T* log_prob;
  float* losses;
  std::int64_t rows, length;
  AxisRows at;

  HALFSTEP_HD Accumulator identity() const { return {0, 0}; }
  HALFSTEP_HD void add(Accumulator& acc, std::int64_t row, std::int64_t i) const { acc.add(load(scores[at(row, i)])); }
  HALFSTEP_HD void combine(Accumulator& acc, const Accumulator& other) const { acc.add(other.maximum, other.sum); }
  HALFSTEP_HD void finish(std::int64_t row, const Accumulator& acc) const {
    const std::int64_t label = labels.class_of(row);
    losses[row] = label < 0 ? 0.0f : labels.weight_of(label) * (acc.log() - load(scores[at(row, label)]));
  }
  HALFSTEP_HD void write(std::int64_t row, std::int64_t i, const Accumulator& acc) const {
    if (log_prob) log_prob[at(row, i)] = round_to<T>(load(scores[at(row, i)]) - acc.log());
  }
};

struct WeightedSum {
  float sum, weight;
};

/// One row: the losses' sum, and the sum of the weights that count. `loss` gets their quotient (0 when none counts), or
/// the sum when `mean` is false; `total_weight` the weights' sum. Either may be null; `losses` too when `loss` is.
template <class T, class Label>
struct CrossEntropyTotal {
  using Accumulator = WeightedSum;
  static constexpr bool kWrites = false;

  const float* losses;
  Labels<T, Label> labels;
  T* loss;
  float* total_weight;
  bool mean;
  std::int64_t rows, length;

  HALFSTEP_HD Accumulator identity() const { return {0, 0}; }
  HALFSTEP_HD void add(Accumulator& acc, std::int64_t, std::int64_t i) const {
    if (losses) acc.sum += losses[i];
    acc.weight += labels.weight_of(labels.class_of(i));
  }
  HALFSTEP_HD void combine(Accumulator& acc, const Accumulator& other) const {
    acc.sum += other.sum;
    acc.weight += other.weight;
  }
  HALFSTEP_HD void finish(std::int64_t, const Accumulator& acc) const {
    if (loss) *loss = round_to<T>(!mean ? acc.sum : acc.weight == 0 ? 0.0f : acc.sum / acc.weight);
    if (total_weight) *total_weight = acc.weight;
  }
};

/// Gradient with respect to the scores: factor * weight * (exp(log_prob) - onehot), factor = dloss (/ total_weight for
/// the mean), dloss one for all rows or one a row.
template <class T, class Label, class D>
struct CrossEntropyGrad {
  const D* dloss;
  const T* log_prob;
  Labels<T, Label> labels;
  const float* total_weight;  ///< null unless the reduction is the mean
  bool dloss_per_row;
  T* dscores;
  std::int64_t inner;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / (labels.classes * inner) * inner + i % inner;
    const std::int64_t label = labels.class_of(row);
    float g = 0;
    if (label >= 0) {
      const std::int64_t c = i / inner % labels.classes;
      g = load(dloss[dloss_per_row ? row : 0]) * labels.weight_of(label);
      if (total_weight && *total_weight != 0) g /= *total_weight;
      g *= std::exp(load(log_prob[i])) - (c == label ? 1.0f : 0.0f);
    }
    dscores[i] = round_to<T>(g);
  }
};

}  // namespace halfstep::cudnn
