// Softmax, LogSoftmax and their gradients over one axis of [outer, length, inner].
#pragma once

#include "executors/cudnn/kernels/reduction.h"

namespace halfstep::cudnn {

/// The rows of [outer, length, inner] along the middle axis.
struct AxisRows {
  std::int64_t length, inner;
  HALFSTEP_HD std::int64_t operator()(std::int64_t row, std::int64_t i) const {
    return (row / inner * length + i) * inner + row % inner;
  }
};

/// Maximum and sum of exp(x - maximum), gathered in one pass (Milakov & Gimelshein 2018, "Online normalizer calculation
/// for softmax"). The sum is NaN as soon as an element is NaN or infinity, whose difference from itself is NaN.
struct ScaledSum {
  float maximum, sum;

  HALFSTEP_HD void add(float x) { add(x, x < HUGE_VALF ? 1.0f : NAN); }
  HALFSTEP_HD void add(float other_maximum, float other_sum) {
    if (other_sum == 0) return;
    if (sum == 0) {
      maximum = other_maximum;
      sum = other_sum;
    } else if (other_maximum == maximum) {  // both may be -infinity
      sum += other_sum;
    } else if (other_maximum > maximum) {
      sum = sum * std::exp(maximum - other_maximum) + other_sum;
      maximum = other_maximum;
    } else {
      sum += other_sum * std::exp(other_maximum - maximum);
    }
  }
  HALFSTEP_HD float log() const { return maximum + std::log(sum); }
};

/// y = softmax(x), or log(softmax(x)).
template <class T>
struct Softmax {
  using Accumulator = ScaledSum;
  static constexpr bool kWrites = true;

  const T* x;
  T* y;
  std::int64_t rows, length;
  AxisRows at;
  bool logarithm;

  HALFSTEP_HD Accumulator identity() const { return {0, 0}; }
  HALFSTEP_HD void add(Accumulator& acc, std::int64_t row, std::int64_t i) const { acc.add(load(x[at(row, i)])); }
  HALFSTEP_HD void combine(Accumulator& acc, const Accumulator& other) const { acc.add(other.maximum, other.sum); }
  HALFSTEP_HD void finish(std::int64_t, const Accumulator&) const {}
  HALFSTEP_HD void write(std::int64_t row, std::int64_t i, const Accumulator& acc) const {
    const float v = load(x[at(row, i)]);
    y[at(row, i)] = round_to<T>(logarithm ? v - acc.log() : std::exp(v - acc.maximum) / acc.sum);
  }
};

/// dx of y = softmax(x), or of y = log(softmax(x)).
template <class T>
struct SoftmaxGrad {
  using Accumulator = float;
  static constexpr bool kWrites = true;

  const T* dy;
  const T* y;
  T* dx;
  std::int64_t rows, length;
  AxisRows at;
  bool logarithm;

  HALFSTEP_HD Accumulator identity() const { return 0; }
  HALFSTEP_HD void add(Accumulator& acc, std::int64_t row, std::int64_t i) const {
    const std::int64_t k = at(row, i);
    acc += logarithm ? load(dy[k]) : load(dy[k]) * load(y[k]);
  }
  HALFSTEP_HD void combine(Accumulator& acc, Accumulator other) const { acc += other; }
  HALFSTEP_HD void finish(std::int64_t, Accumulator) const {}
  HALFSTEP_HD void write(std::int64_t row, std::int64_t i, Accumulator sum) const {
    const std::int64_t k = at(row, i);
    const float g = load(dy[k]), v = load(y[k]);
    dx[k] = round_to<T>(logarithm ? g - std::exp(v) * sum : v * (g - sum));
  }
};

}  // namespace halfstep::cudnn
