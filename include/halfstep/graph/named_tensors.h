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

/// Name, type and shape of an input or output of a model. Extents that the model does not fix are Shape::kUnknown.
struct TensorInfo {
  std::string name;
  DType dtype = DType::undefined;
  Shape shape;

  /// "x f32[N,784]" with ? for an unknown extent.
  std::string to_string() const;
};

/// `given` converted to another type: the same tensor if it already has that type, otherwise a copy. Floats are rounded
/// to floats; integers and bools become integers of the same value. Throws Error(input), which calls the tensor `name`,
/// for other types and for an integer that does not fit.
Tensor as_type(const Tensor& given, DType wanted, const std::string& name);

}  // namespace halfstep
