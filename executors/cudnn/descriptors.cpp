#include "executors/cudnn/descriptors.h"

#include <limits>
#include <string>
#include <vector>

#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

int to_int(std::int64_t extent) {
  if (extent > std::numeric_limits<int>::max())
    throw_failure("extents and strides below 2^31 in cuDNN's descriptors", std::to_string(extent),
                  "take a smaller batch");
  return static_cast<int>(extent);
}

/// [N, C, L] as [N, C, 1, L].
std::vector<int> padded_dims(const Shape& shape) {
  std::vector<int> dims;
  for (std::int64_t extent : shape) dims.push_back(to_int(extent));
  if (dims.size() == 3) dims.insert(dims.begin() + 2, 1);
  return dims;
}

/// The spatial axes cuDNN is told of: all three for tensors of rank 5, else the last two.
std::vector<int> tail(const ops::Window::Axes& axes, std::size_t rank) {
  std::vector<int> values;
  for (std::size_t axis = rank == 5 ? 0 : 1; axis < axes.size(); ++axis) values.push_back(to_int(axes[axis]));
  return values;
}

}  // namespace

std::optional<cudnnDataType_t> data_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDNN_DATA_FLOAT;
    case DType::f16:
      return CUDNN_DATA_HALF;
    case DType::bf16:
      return CUDNN_DATA_BFLOAT16;
    default:
      return std::nullopt;
  }
}

TensorDescriptor tensor_descriptor(DType dtype, const Shape& shape, TensorOrder order) {
  if (shape.count() > std::numeric_limits<int>::max())
    throw_failure("tensors of fewer than 2^31 elements in cuDNN's kernels", std::to_string(shape.count()),
                  "take a smaller batch");
  cudnnTensorDescriptor_t handle = nullptr;
  check(cudnnCreateTensorDescriptor(&handle), "cudnnCreateTensorDescriptor");
  TensorDescriptor descriptor(handle);
  const std::vector<int> dims = padded_dims(shape);
  std::vector<int> strides;
  for (const std::int64_t stride : strides_in(order, {dims.begin(), dims.end()})) strides.push_back(to_int(stride));
  check(cudnnSetTensorNdDescriptor(handle, data_type(dtype).value(), static_cast<int>(dims.size()), dims.data(),
                                   strides.data()),
        "cudnnSetTensorNdDescriptor");
  return descriptor;
}

PoolingDescriptor pooling_descriptor(cudnnPoolingMode_t mode, const ops::Window& w, std::size_t rank) {
  cudnnPoolingDescriptor_t handle = nullptr;
  check(cudnnCreatePoolingDescriptor(&handle), "cudnnCreatePoolingDescriptor");
  PoolingDescriptor descriptor(handle);
  const std::vector<int> kernel = tail(w.kernel, rank), pads = tail(w.pad_begin, rank), strides = tail(w.stride, rank);
  check(cudnnSetPoolingNdDescriptor(handle, mode, CUDNN_PROPAGATE_NAN, static_cast<int>(kernel.size()), kernel.data(),
                                    pads.data(), strides.data()),
        "cudnnSetPoolingNdDescriptor");
  return descriptor;
}

}  // namespace halfstep::cudnn
