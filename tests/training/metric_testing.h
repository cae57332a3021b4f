// Metrics of one batch.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <halfstep/training/metric_def.h>
#include <halfstep/training/metrics.h>

namespace halfstep {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInf = std::numeric_limits<float>::infinity();

using Form = LabelReading::Form;

/// What the shapes tell, classes along the last axis.
inline LabelReading reading_of(const Tensor& output, const Tensor& labels, double threshold = 0.5) {
  const Shape& shape = output.shape();
  const bool single = shape.rank() < 2 || shape.dim(-1) == 1;
  const bool same = labels.count() == output.count();
  return {.form = single ? Form::binary
                  : same ? Form::one_hot
                         : Form::classes,
          .class_axis = shape.rank() - 1,
          .ignored = {},
          .binary_threshold = threshold};
}

inline double measure(const char* metric, const Tensor& output, const Tensor& labels, const LabelReading& reading) {
  Metrics metrics(parse_metrics(metric), reading);
  metrics.add(output, labels);
  return metrics.value(0);
}

inline double measure(const char* metric, const Tensor& output, const Tensor& labels, double threshold = 0.5) {
  return measure(metric, output, labels, reading_of(output, labels, threshold));
}

inline Tensor classes(std::vector<std::int64_t> values) { return Tensor::of<std::int64_t>(values); }

}  // namespace halfstep
