// Tensors by name.
#pragma once

#include <map>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/graph/shape.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

using NamedTensors = std::map<std::string, Tensor>;

/// What a model takes or gives by a name. Extents that the model leaves open are Shape::kUnknown.
struct TensorInfo {
  std::string name;
  DType dtype = DType::undefined;
  Shape shape;

  /// "x f32[N,784]" with ? for an unknown extent.
  std::string to_string() const;
};

/// `given` in another type: itself where it has that already, else a copy. Floats are rounded to floats; integers and
/// truth values become integers that hold them. Throws Error(input), calling the tensor `name`, for other types and for
/// an integer that does not fit.
Tensor as_type(const Tensor& given, DType wanted, const std::string& name);

}  // namespace halfstep
