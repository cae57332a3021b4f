// Interpretation of labels with respect to the output that a loss and its metrics are computed from.
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
    classes,  ///< a class index for each point of the output: each position along all axes except the class axis
    one_hot,  ///< of the output's shape; a point's label is where it is largest along the class axis
    binary,   ///< 0 or 1 for each element of the output
    values,   ///< a number for each element of the output
  };
  Form form = Form::values;
  std::size_t class_axis = 1;                ///< of the output, for `classes` and `one_hot`
  std::optional<std::int64_t> ignored = {};  ///< points (`classes`) or elements (`binary`) with this label are ignored
  double binary_threshold = 0.5;             ///< outputs above it are class 1: 0.5 for probabilities, 0 for logits
};

/// Number of labels of a batch of `rows` rows that are not ignored, for `classes` and for binary labels that may be
/// ignored; else the number of rows.
std::int64_t counted_labels(const LabelReading& reading, const Tensor& labels, std::int64_t rows);

/// Total weight of these labels, by class weights (empty: all 1) and sample weights (f32, one per row or per label;
/// null: all 1). It is the weight of the mean over a batch in the mean over several batches. Throws Error(input) for a
/// label without a class weight.
double weight_of_labels(const LabelReading& reading, const Tensor& labels, std::int64_t rows,
                        std::span<const double> class_weights, const Tensor* sample_weights);

}  // namespace halfstep
