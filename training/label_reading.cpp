#include "training/wide.h"
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

}  // namespace halfstep
