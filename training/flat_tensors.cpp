#include "training/flat_tensors.h"

#include <cstring>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

std::int64_t count_of(const std::vector<TensorInfo>& types) {
  std::int64_t count = 0;
  for (const TensorInfo& type : types) count += type.shape.count();
  return count;
}

}  // namespace

Tensor flat(const NamedTensors& tensors, const std::vector<TensorInfo>& types) {
  Tensor buffer(DType::f32, {count_of(types)});
  float* to = buffer.data<float>();
  for (const TensorInfo& type : types) {
    if (const auto at = tensors.find(type.name); at != tensors.end() && at->second.count() > 0) {
      const Tensor from = at->second.dtype() == DType::f32 ? at->second : convert(at->second, DType::f32);
      std::memcpy(to, from.raw(), from.bytes());
    }
    to += type.shape.count();
  }
  return buffer;
}

NamedTensors unflat(const Tensor& buffer, const std::vector<TensorInfo>& types) {
  const std::int64_t count = count_of(types);
  if (buffer.dtype() != DType::f32 || buffer.count() != count)
    throw_input_error(fmt::format("f32[{}], an element for each of the parameters'", count),
                      fmt::format("{}{}", name_of(buffer.dtype()), buffer.shape().to_string()), "");
  const Tensor line = buffer.reshaped({count});
  NamedTensors result;
  std::int64_t first = 0;
  for (const TensorInfo& type : types) {
    const std::int64_t last = first + type.shape.count();
    const Tensor part = line.rows(first, last).reshaped(type.shape);
    result[type.name] = type.dtype == DType::f32 ? part : convert(part, type.dtype);
    first = last;
  }
  return result;
}

void scale_by(Tensor& tensor, double factor) {
  if (tensor.dtype() == DType::f64) {
    for (double& x : tensor.span<double>()) x *= factor;
  } else {
    for (float& x : tensor.span<float>()) x = static_cast<float>(x * factor);
  }
}

}  // namespace halfstep
