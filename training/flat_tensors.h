// Many tensors as one.
#pragma once

#include <vector>

#include <halfstep/graph/named_tensors.h>

namespace halfstep {

/// The elements of tensors of the types' names one after the other, as f32; 0 where there is none.
Tensor flat(const NamedTensors& tensors, const std::vector<TensorInfo>& types);

/// The reverse: views of the buffer where a type is f32, else copies. Throws Error(input) unless it has as many
/// elements as the types.
NamedTensors unflat(const Tensor& buffer, const std::vector<TensorInfo>& types);

/// Multiplies each element.
void scale_by(Tensor& tensor, double factor);

}  // namespace halfstep
