// How labels are read against the output that a loss and its metrics are computed from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <halfstep/base/api.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

struct LabelReading {
  enum class Form {
    classes,  ///< a class index for each point of the output: each place along all its axes but the classes'
    one_hot,  ///< of the output's shape; a point's label is where it is largest along the class axis
    binary,   ///< 0 or 1 for each element of the output
    values,   ///< a number for each element of the output
  };
  Form form = Form::values;
  std::size_t class_axis = 1;                ///< of the output, for `classes` and `one_hot`
  std::optional<std::int64_t> ignored = {};  ///< points (`classes`) or elements (`binary`) of this label do not count
  double binary_threshold = 0.5;             ///< outputs above are class 1: 0.5 for probabilities, 0 for logits
};

/// How many labels of a batch of `rows` rows count: those that are not ignored, for `classes` and where binary ones may
/// be, else rows.
std::int64_t counted_labels(const LabelReading& reading, const Tensor& labels, std::int64_t rows);

/// What those weigh together, by the weights of their classes (empty: all 1) and of samples (f32, one for each row or
/// each label; null: all 1): what the mean over a batch weighs in the mean over several.
double weight_of_labels(const LabelReading& reading, const Tensor& labels, std::int64_t rows,
                        std::span<const double> class_weights, const Tensor* sample_weights);

}  // namespace halfstep
