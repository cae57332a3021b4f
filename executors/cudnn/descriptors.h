// cuDNN's descriptors of halfstep's tensors and windows. Nothing here needs a device.
#pragma once

#include <memory>
#include <optional>

#include "executors/cudnn/resources.h"
#include "executors/cudnn/tensor_order.h"
#include "ops/convolution/window.h"
#include <halfstep/graph/shape.h>

namespace halfstep::cudnn {

/// f32, f16 and bf16; nothing for any other.
std::optional<cudnnDataType_t> data_type(DType dtype);

/// Throws Error (failure) where there are 2^31 elements or more, which cuDNN's kernels do not count.
/// [N, C, spatial...]; one spatial axis is preceded by one of extent 1, as cuDNN wants two or three.
TensorDescriptor tensor_descriptor(DType dtype, const Shape& shape, TensorOrder order = TensorOrder::row_major);
/// Of pooling, where `rank` is that of the tensors; pads are w.pad_begin.
PoolingDescriptor pooling_descriptor(cudnnPoolingMode_t mode, const ops::Window& w, std::size_t rank);

}  // namespace halfstep::cudnn
