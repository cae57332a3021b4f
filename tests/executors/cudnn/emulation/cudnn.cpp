// cuDNN but its graph API: handles, descriptors, pooling.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include <cudnn.h>

#include "ops/convolution/window.h"
#include "tests/executors/cudnn/emulation/cudnn_handle.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/numbers.h"
#include "tests/executors/cudnn/emulation/pending_error.h"
#include "tests/executors/cudnn/emulation/streams.h"
#include "tests/executors/cudnn/emulation/tensor_order.h"

using emulation::destroy;
using emulation::dtype_of;
using emulation::make;
using emulation::refuse_call;
using halfstep::DType;
using halfstep::ops::Window;

struct cudnnTensorStruct {
  DType type = DType::undefined;
  std::vector<std::int64_t> dims, strides = {};
  std::size_t bytes() const;
  bool is_row_major() const { return strides.empty() || emulation::is_dense(dims, strides, false); }
  std::int64_t place(std::int64_t i) const { return emulation::place(dims, strides, i); }
};
/// Pads, strides and windows, by spatial axis.
struct Spatial {
  std::vector<int> pads, strides, sizes;
};
struct cudnnPoolingStruct : Spatial {
  cudnnPoolingMode_t mode = CUDNN_POOLING_MAX;
  cudnnNanPropagation_t nan = CUDNN_NOT_PROPAGATE_NAN;
};

std::size_t cudnnTensorStruct::bytes() const {
  std::int64_t count = 1;
  for (std::int64_t d : dims) count *= d;
  return halfstep::bytes_of(type, static_cast<std::size_t>(count));
}

namespace {

/// The window along three spatial axes.
Window window(const Spatial& s, const std::vector<std::int64_t>& x, const std::vector<std::int64_t>& y) {
  Window w;
  const std::size_t axes = x.size() - 2, skip = 3 - axes;
  for (std::size_t i = 0; i < axes; ++i) {
    w.input[skip + i] = x[2 + i];
    w.output[skip + i] = y[2 + i];
    w.kernel[skip + i] = s.sizes[i];
    w.stride[skip + i] = s.strides[i];
    w.dilation[skip + i] = 1;
    w.pad_begin[skip + i] = w.pad_end[skip + i] = s.pads[i];
  }
  return w;
}

}  // namespace

extern "C" {

std::size_t cudnnGetVersion() {
  if (emulation::fails("a cuDNN of today")) return 90100;
  return emulation::fails("cuDNN 9.13") ? 91200 : CUDNN_VERSION;
}
const char* cudnnGetErrorString(cudnnStatus_t) { return "a cuDNN status"; }
void cudnnGetLastErrorString(char* message, std::size_t size) {
  std::strncpy(message, emulation::refusal(), size);
  if (size) message[size - 1] = 0;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return make(handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (stream->device != emulation::this_device()) return refuse_call("a handle's stream is of another device");
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t d, int most, cudnnDataType_t* type, int* rank,
                                         int dims[], int strides[]) {
  *type = d->type == DType::f16 ? CUDNN_DATA_HALF : d->type == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  *rank = static_cast<int>(d->dims.size());
  for (std::size_t i = 0; i < d->dims.size() && static_cast<int>(i) < most; ++i) {
    dims[i] = static_cast<int>(d->dims[i]);
    strides[i] = static_cast<int>(d->strides[i]);
  }
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) {
  return emulation::fails("descriptor") ? CUDNN_STATUS_BAD_PARAM : make(d);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t d, cudnnDataType_t type, int rank, const int dims[],
                                         const int strides[]) {
  if (rank < 3 || rank > 5) return refuse_call("a tensor must have 3 to 5 axes");
  *d = {dtype_of(type), {dims, dims + rank}, {strides, strides + rank}};
  return emulation::is_known_order(d->dims, d->strides) ? CUDNN_STATUS_SUCCESS
                                                        : refuse_call("a tensor in an order that is not emulated");
}
cudnnStatus_t cudnnCreatePoolingDescriptor(cudnnPoolingDescriptor_t* d) { return make(d); }
cudnnStatus_t cudnnDestroyPoolingDescriptor(cudnnPoolingDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetPoolingNdDescriptor(cudnnPoolingDescriptor_t d, const cudnnPoolingMode_t mode,
                                          const cudnnNanPropagation_t nan, int axes, const int sizes[],
                                          const int pads[], const int strides[]) {
  d->mode = mode;
  d->nan = nan;
  d->sizes.assign(sizes, sizes + axes);
  d->pads.assign(pads, pads + axes);
  d->strides.assign(strides, strides + axes);
  for (int i = 0; i < axes; ++i)
    if (pads[i] >= sizes[i]) return refuse_call("a pad is as large as its window");
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetPoolingNdForwardOutputDim(const cudnnPoolingDescriptor_t d, const cudnnTensorDescriptor_t x,
                                                int rank, int dims[]) {
  if (static_cast<std::size_t>(rank) != x->dims.size()) return refuse_call("ranks differ");
  for (int i = 0; i < rank; ++i) dims[i] = static_cast<int>(x->dims[static_cast<std::size_t>(i)]);
  for (std::size_t i = 0; i < d->sizes.size(); ++i)
    dims[2 + i] = 1 + (dims[2 + i] + 2 * d->pads[i] - d->sizes[i]) / d->strides[i];
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnPoolingForward(cudnnHandle_t handle, const cudnnPoolingDescriptor_t d, const void*,
                                  const cudnnTensorDescriptor_t x, const void* xp, const void*,
                                  const cudnnTensorDescriptor_t y, void* yp) {
  std::array<int, 5> dims{};
  if (auto s = cudnnGetPoolingNdForwardOutputDim(d, x, static_cast<int>(x->dims.size()), dims.data());
      s != CUDNN_STATUS_SUCCESS)
    return s;
  if (emulation::fails("pooling")) {
    emulation::leave_error(cudaErrorInvalidValue);
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  if (x->dims[0] >= 65536) return refuse_call("pooling takes fewer than 65536 images", CUDNN_STATUS_NOT_SUPPORTED);
  if (x->type != y->type || !std::equal(y->dims.begin(), y->dims.end(), dims.begin()))
    return refuse_call("the output's descriptor does not fit");
  if (!emulation::is_device(xp, x->bytes()) || !emulation::is_device(yp, y->bytes()))
    return refuse_call("a tensor does not lie in device memory");
  const Window w = window(*d, x->dims, y->dims);
  const std::int64_t planes = x->dims[0] * x->dims[1];
  emulation::submit(handle->stream, [w, planes, from = *x, to = *y, type = x->type, mode = d->mode, nan = d->nan, xp,
                                     yp] {
    for (std::int64_t plane = 0; plane < planes; ++plane)
      halfstep::ops::for_each_output(w, [&](std::int64_t offset, std::int64_t o0, std::int64_t o1, std::int64_t o2) {
        double sum = 0, maximum = -HUGE_VAL;
        std::int64_t inside = 0;
        halfstep::ops::for_each_tap(w, o0, o1, o2, [&](std::int64_t i) {
          const double v = emulation::load(type, xp, from.place(plane * w.input_count() + i));
          sum += v;
          maximum = std::isnan(v) && nan == CUDNN_PROPAGATE_NAN ? v : std::max(maximum, v);
          ++inside;
        });
        const double result = mode == CUDNN_POOLING_MAX_DETERMINISTIC ? maximum
                              : mode == CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING
                                  ? sum / static_cast<double>(w.kernel_count())
                                  : sum / static_cast<double>(inside);
        emulation::store(type, yp, to.place(plane * w.output_count() + offset), result);
      });
  });
  return CUDNN_STATUS_SUCCESS;
}
}
