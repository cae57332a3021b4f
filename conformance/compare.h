// Tensors held against the tensors they should be.
#pragma once

#include <string>
#include <string_view>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// How far an element may be off: |found - wanted| <= absolute + relative * |wanted|.
struct Tolerance {
  double absolute = 0, relative = 0;
};

/// Empty when `found` is `wanted`: type and shape equal, floats within the tolerance (infinities of the same sign are
/// equal, and so are NaNs), all else exactly. Otherwise what differs, first where; `name` is the output's, `source`
/// says where `wanted` is from.
std::string difference(std::string_view name, const Tensor& found, const Tensor& wanted, const Tolerance& tolerance,
                       std::string_view source);

/// The distance between 1 and the next number of a float type.
double precision_of(DType dtype);
/// The largest finite magnitude in a tensor of floats; 0 when there is none.
double largest_element(const Tensor& tensor);

}  // namespace halfstep
