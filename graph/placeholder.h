// Tensors that stand for others whose elements are kept elsewhere.
#pragma once

#include <cstddef>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// A tensor of the same type and shape without its elements, which are zeros, where it is large: memory of its own that
/// takes none until it is written. A small one as it is.
inline Tensor placeholder_of(const Tensor& tensor) {
  constexpr std::size_t kLarge = std::size_t{1} << 20;
  return tensor.is_defined() && tensor.bytes() >= kLarge && tensor.dtype() != DType::string
             ? Tensor(tensor.dtype(), tensor.shape())
             : tensor;
}

}  // namespace halfstep
