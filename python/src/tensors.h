// Tensors from Python's arrays and back.
#pragma once

#include <string>
#include <vector>

#include "python/src/bindings.h"
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/tensor.h>

namespace halfstep::python {

/// The elements of a NumPy array or anything else that has a buffer, of an array of another library that gives DLPack,
/// or of what numpy.asarray takes. Contiguous elements in host memory are not copied: the tensor keeps their owner.
/// Throws Error(input), calling the tensor `name`, for what is no array of numbers.
Tensor tensor_from(nb::handle object, const std::string& name);

/// A mapping from names to such arrays. Throws Error(input) for anything else; `what` says what was to be one.
NamedTensors tensors_from(nb::handle mapping, const char* what);

/// A NumPy array on the tensor's own memory. Types that NumPy lacks are those of ml_dtypes where that can be imported,
/// else unsigned integers of the same bits.
nb::object array_from(const Tensor& tensor);
nb::dict arrays_from(const NamedTensors& tensors);

/// (name, type, shape), an open extent is None and so is a shape without a rank.
nb::list infos_from(const std::vector<TensorInfo>& infos);

inline nb::str text(std::string_view s) { return nb::str(s.data(), s.size()); }

}  // namespace halfstep::python
