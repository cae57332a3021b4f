// The geometry of ONNX Resize: the operand's elements, with weights, of each element of the result.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/attribute.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// An element of the operand's axis and its weight.
struct Tap {
  std::int64_t index;
  double weight;
};

/// For each element of an axis of the result its weighted taps; none if it is outside of the region of interest and has
/// the extrapolation value.
using AxisTaps = std::vector<std::vector<Tap>>;

/// The shape of Resize's result; unknown extents of the operand stay unknown. Throws Error as Resizing does.
Shape resized_shape(const Attributes& attributes, const Shape& input, const Tensor& scales, const Tensor& sizes);

/// Throws Error if Resizing does, at a cost that does not depend on the extents.
void check_resizing(const Attributes& attributes, const Shape& input, const Tensor& roi, const Tensor& scales,
                    const Tensor& sizes);

/// Resizing is separable: an element of the result is a sum along each axis in turn.
struct Resizing {
  std::vector<AxisTaps> axes;  ///< one per axis of the operand

  /// From Resize's attributes and operands; absent ones are undefined or empty tensors. Throws Error if neither or both
  /// of scales and sizes are given, for lengths that do not fit, and for unknown modes.
  Resizing(const Attributes& attributes, const Shape& input, const Tensor& roi, const Tensor& scales,
           const Tensor& sizes);
};

}  // namespace ops
}  // namespace halfstep
