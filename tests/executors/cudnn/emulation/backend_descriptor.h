// What descriptors of cuDNN's backend API hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include <cudnn.h>

#include <halfstep/graph/tensor_bytes.h>

namespace emulation {

using Dims = std::vector<std::int64_t>;

struct Attribute {
  cudnnBackendAttributeType_t type;
  std::int64_t count;
  std::vector<std::byte> bytes;
};

/// A descriptor of the API, of whatever type.
struct Descriptor {
  cudnnBackendDescriptorType_t type;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes = {};
  bool is_final = false;
  int engine = -1;                    // of a configuration and an engine
  const Descriptor* graph = nullptr;  // of a configuration

  bool has(cudnnBackendAttributeName_t name) const { return attributes.contains(name); }
  template <class T>
  std::vector<T> all(cudnnBackendAttributeName_t name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> values(found->second.bytes.size() / sizeof(T));
    std::memcpy(values.data(), found->second.bytes.data(), values.size() * sizeof(T));
    return values;
  }
  template <class T>
  T one(cudnnBackendAttributeName_t name, T fallback = {}) const {
    const std::vector<T> values = all<T>(name);
    return values.empty() ? fallback : values[0];
  }
  const Descriptor& part(cudnnBackendAttributeName_t name) const {
    return *static_cast<const Descriptor*>(one<cudnnBackendDescriptor_t>(name));
  }
};

struct Tensor {
  std::int64_t id;
  halfstep::DType type;
  Dims dims;
  bool is_virtual;
  Dims strides;
  bool is_by_value;

  std::int64_t count() const {
    std::int64_t n = 1;
    for (const std::int64_t d : dims) n *= d;
    return n;
  }
  /// Where element i, in row-major order, lies.
  std::int64_t position(std::int64_t i) const {
    std::int64_t at = 0;
    for (std::size_t axis = dims.size(); axis-- > 0; i /= dims[axis]) at += i % dims[axis] * strides[axis];
    return at;
  }
  /// The bytes from the first element to the last.
  std::size_t bytes() const { return halfstep::bytes_of(type, static_cast<std::size_t>(position(count() - 1) + 1)); }
};
inline Tensor tensor_of(const Descriptor& d) {
  const auto type = d.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  return {d.one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID),
          type == CUDNN_DATA_HALF       ? halfstep::DType::f16
          : type == CUDNN_DATA_BFLOAT16 ? halfstep::DType::bf16
                                        : halfstep::DType::f32,
          d.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS),
          d.one<unsigned char>(CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0,
          d.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES),
          d.one<unsigned char>(CUDNN_ATTR_TENSOR_IS_BY_VALUE) != 0};
}

}  // namespace emulation
