#include <fmt/format.h>

#include "training/wide.h"
#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>
#include <halfstep/training/label_reading.h>

namespace halfstep {

std::int64_t counted_labels(const LabelReading& reading, const Tensor& labels, std::int64_t rows) {
  if (!reading.ignored) return reading.form == LabelReading::Form::classes ? labels.count() : rows;
  return visit_dtype(labels.dtype(), [&]<class L>() {
    std::int64_t counted = 0;
    for (const L label : labels.span<L>()) counted += static_cast<std::int64_t>(wide(label)) != *reading.ignored;
    return counted;
  });
}

double weight_of_labels(const LabelReading& reading, const Tensor& labels, std::int64_t rows,
                        std::span<const double> class_weights, const Tensor* sample_weights) {
  const bool by_class = reading.form == LabelReading::Form::classes && !class_weights.empty();
  if (!by_class && !sample_weights) return static_cast<double>(counted_labels(reading, labels, rows));
  const std::span<const float> samples = sample_weights ? sample_weights->span<float>() : std::span<const float>();
  double sum = 0;
  if (!by_class && !reading.ignored) {
    for (const float weight : samples) sum += weight;
    return sum;
  }
  const std::size_t labels_of_one = samples.empty() ? 1 : static_cast<std::size_t>(labels.count()) / samples.size();
  visit_dtype(labels.dtype(), [&]<class L>() {
    const std::span<const L> all = labels.span<L>();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto label = static_cast<std::int64_t>(wide(all[i]));
      if (reading.ignored && label == *reading.ignored) continue;
      if (by_class && (label < 0 || label >= static_cast<std::int64_t>(class_weights.size())))
        throw_input_error(fmt::format("labels from 0 to {}", class_weights.size() - 1),
                          fmt::format("{} at position {}", label, i), "correct the labels");
      sum += (by_class ? class_weights[static_cast<std::size_t>(label)] : 1) *
             (samples.empty() ? 1.0 : static_cast<double>(samples[i / labels_of_one]));
    }
  });
  return sum;
}

}  // namespace halfstep
