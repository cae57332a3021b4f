// Conversion between tensors and Python arrays.
#pragma once

#include <string>
#include <vector>

#include "python/src/bindings.h"
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/tensor.h>

namespace halfstep::python {

/// The elements of a NumPy array or another object with a buffer, of an array of another library with DLPack, or of
/// anything that numpy.asarray accepts. Contiguous elements in host memory are not copied: the tensor keeps their
/// owner. Throws Error(input), which calls the tensor `name`, for objects that are not arrays of numbers.
Tensor tensor_from(nb::handle object, const std::string& name);

/// A mapping from names to such arrays. Throws Error(input) for anything else; `what` names the argument.
NamedTensors tensors_from(nb::handle mapping, const char* what);

/// A NumPy array on the tensor's own memory. Types that NumPy lacks become those of ml_dtypes if it can be imported,
/// else unsigned integers with the same bits.
nb::object array_from(const Tensor& tensor);
nb::dict arrays_from(const NamedTensors& tensors);

/// (name, type, shape); an unknown extent is None, as is a shape of unknown rank.
nb::list infos_from(const std::vector<TensorInfo>& infos);

}  // namespace halfstep::python
