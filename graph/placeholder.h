// Tensors of zeros, and those that stand for others whose elements are kept elsewhere.
#pragma once

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Zeros that take no memory, of any size, until they are written.
Tensor zeros_of(DType dtype, const Shape& shape);

/// Zeros of the same type and shape in place of the elements, unless these are few: a small tensor as it is.
Tensor placeholder_of(const Tensor& tensor);

}  // namespace halfstep
