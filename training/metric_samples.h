// How metrics go through a batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include <fmt/format.h>

#include "training/wide.h"
#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>
#include <halfstep/training/metric_def.h>

namespace halfstep {

/// The rule of metrics whose sums are sums over samples: adds element by element.
void add_sums(Metrics::Tally& tally, const Metrics::Tally& other);

[[noreturn]] inline void refuse_shapes(const char* required, const MetricSample& sample) {
  throw_input_error(
      required,
      fmt::format("labels {}{} for output {}{}", name_of(sample.labels.dtype()), sample.labels.shape().to_string(),
                  name_of(sample.output.dtype()), sample.output.shape().to_string()),
      "check the labels, or choose another metric");
}

template <class F>
void visit_output(const Tensor& output, F&& f) {
  if (!is_float(output.dtype()))
    throw_input_error("a floating-point output to measure", std::string(name_of(output.dtype())),
                      "choose another output");
  visit_dtype(output.dtype(), [&]<class T>() {
    if constexpr (!std::is_integral_v<T>) f.template operator()<T>();
  });
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
  /// Whether none comes before that of `label`: rank_of(label) == 0. Looks at blocks until one has such, which of a
  /// model that errs is soon.
  bool is_first(std::int64_t label) const {
    const auto score = (*this)[label];
    if (std::isnan(static_cast<double>(score))) return false;
    return !any_of(0, label, [score](auto other) { return other >= score; }) &&
           !any_of(label + 1, classes, [score](auto other) { return other > score; });
  }
  /// How many come before that of `label`: the larger ones, and equal ones of a lower class.
  std::int64_t rank_of(std::int64_t label) const {
    const auto score = (*this)[label];
    if (std::isnan(static_cast<double>(score))) return classes;
    std::int64_t rank = 0;
    for (std::int64_t c = 0; c < classes; ++c) rank += (*this)[c] > score || (c < label && (*this)[c] == score);
    return rank;
  }

 private:
  template <class Test>
  bool any_of(std::int64_t begin, std::int64_t end, const Test& test) const {
    constexpr std::int64_t kBlock = 64;  // without a branch for each
    for (; step == 1 && begin + kBlock <= end; begin += kBlock) {
      int found = 0;
      for (std::int64_t i = 0; i < kBlock; ++i) found |= static_cast<int>(test(wide(first[begin + i])));
      if (found != 0) return true;
    }
    for (; begin < end; ++begin)
      if (test((*this)[begin])) return true;
    return false;
  }
};

/// The weights of a batch's points or elements.
class PointWeights {
 public:
  PointWeights(const MetricSample& sample, std::int64_t points) {
    if (!sample.weights) return;
    const std::int64_t count = sample.weights->count();
    if (count == 0 || points % count != 0)
      throw_input_error("a sample weight for each row or each point", sample.weights->shape().to_string(),
                        "check the weights");
    first_ = sample.weights->data<float>();
    points_of_one_ = points / count;
  }
  double operator[](std::int64_t point) const {
    return first_ ? static_cast<double>(first_[point / points_of_one_]) : 1;
  }

 private:
  const float* first_ = nullptr;
  std::int64_t points_of_one_ = 1;
};

/// visit(scores, label, weight) for every point that counts.
template <class Visit>
void for_each_point(const MetricSample& sample, const Visit& visit) {
  const Shape& shape = sample.output.shape();
  const std::size_t axis = sample.reading.class_axis;
  const bool one_hot = sample.reading.form == LabelReading::Form::one_hot;
  if (axis >= shape.rank()) refuse_shapes("an output with a class axis", sample);
  const std::int64_t classes = shape[axis], inner = shape.count(axis + 1, shape.rank());
  const std::int64_t points = shape.count(0, axis) * inner;
  const bool integer = is_integer(sample.labels.dtype()) || sample.labels.dtype() == DType::boolean;
  if (one_hot ? sample.labels.count() != sample.output.count() : sample.labels.count() != points || !integer)
    refuse_shapes(one_hot ? "one-hot labels of the output's shape" : "one class index for each point of the output",
                  sample);
  const std::int64_t ignored = sample.reading.ignored.value_or(-1);
  const PointWeights weights(sample, points);
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
        visit(Scores<T>{sample.output.data<T>() + first, classes, inner}, label, weights[p]);
      }
    });
  });
}

/// visit(output, label, place, weight) for every element that counts, as double but for the place.
template <class Visit>
void for_each_element(const MetricSample& sample, const Visit& visit) {
  if (sample.labels.count() != sample.output.count()) refuse_shapes("one label for each output", sample);
  const bool ignores = sample.reading.ignored.has_value();
  const auto ignored = static_cast<double>(sample.reading.ignored.value_or(0));
  const PointWeights weights(sample, sample.output.count());
  visit_output(sample.output, [&]<class T>() {
    visit_dtype(sample.labels.dtype(), [&]<class L>() {
      for (std::int64_t i = 0; i < sample.output.count(); ++i) {
        const auto label = static_cast<double>(wide(sample.labels.data<L>()[i]));
        if (ignores && label == ignored) continue;
        visit(static_cast<double>(wide(sample.output.data<T>()[i])), label, i, weights[i]);
      }
    });
  });
}

/// visit(output, label, weight) for every element that counts, the label 0 or 1.
template <class Visit>
void for_each_binary_score(const MetricSample& sample, const Visit& visit) {
  for_each_element(sample, [&](double score, double label, std::int64_t at, double weight) {
    if (label != 0 && label != 1)
      throw_input_error("labels of 0 or 1", fmt::format("{} at element {}", label, at), "check the labels");
    visit(score, static_cast<std::int64_t>(label), weight);
  });
}

/// visit(class of the output or -1, label, weight) for every point that counts; of binary labels, for every element.
template <class Visit>
void for_each_guess(const MetricSample& sample, const Visit& visit) {
  if (sample.reading.form != LabelReading::Form::binary)
    return for_each_point(
        sample, [&](const auto& scores, std::int64_t label, double weight) { visit(scores.largest(), label, weight); });
  for_each_binary_score(sample, [&](double score, std::int64_t label, double weight) {
    visit(std::isnan(score) ? -1 : static_cast<std::int64_t>(score > sample.reading.binary_threshold), label, weight);
  });
}

/// How many classes the guesses are of.
inline std::int64_t classes_of(const MetricSample& sample) {
  if (sample.reading.form == LabelReading::Form::binary) return 2;
  const Shape& shape = sample.output.shape();
  return sample.reading.class_axis < shape.rank() ? shape[sample.reading.class_axis] : 0;
}

}  // namespace halfstep
