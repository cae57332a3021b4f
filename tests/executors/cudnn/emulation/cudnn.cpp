// cuDNN: convolutions of row-major tensors with two or three spatial axes, and pooling.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include <cudnn.h>

#include "ops/convolution/window.h"
#include "tests/executors/cudnn/emulation/convolution.h"
#include "tests/executors/cudnn/emulation/cudnn_handle.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/numbers.h"
#include "tests/executors/cudnn/emulation/pending_error.h"
#include "tests/executors/cudnn/emulation/tensor_order.h"

using emulation::Convolution;
using emulation::for_each_product;
using halfstep::DType;
using halfstep::ops::Window;

struct cudnnTensorStruct {
  DType type = DType::undefined;
  std::vector<std::int64_t> dims, strides = {};
  std::size_t bytes() const;
  bool is_row_major() const { return strides.empty() || emulation::is_dense(dims, strides, false); }
  std::int64_t place(std::int64_t i) const { return emulation::place(dims, strides, i); }
};
struct cudnnFilterStruct : cudnnTensorStruct {};
/// Pads, strides and dilations or windows, by spatial axis.
struct Spatial {
  std::vector<int> pads, strides, sizes;
};
struct cudnnConvolutionStruct : Spatial {
  int group = 1;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
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

constexpr std::size_t kWorkspace = 1024;

cudnnStatus_t refuse(const char* why, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
  emulation::refuse(why);
  return status;
}
template <class T>
cudnnStatus_t make(T** handle) {
  *handle = new T;
  emulation::count_object(1);
  return CUDNN_STATUS_SUCCESS;
}
template <class T>
cudnnStatus_t destroy(T* handle) {
  delete handle;
  emulation::count_object(-1);
  return CUDNN_STATUS_SUCCESS;
}

DType dtype_of(cudnnDataType_t t) {
  return t == CUDNN_DATA_FLOAT      ? DType::f32
         : t == CUDNN_DATA_HALF     ? DType::f16
         : t == CUDNN_DATA_BFLOAT16 ? DType::bf16
                                    : DType::undefined;
}

/// The window along three spatial axes; kernel extents and dilations come from the filter or the pooling.
Window window(const Spatial& s, const std::vector<std::int64_t>& x, const std::vector<std::int64_t>& y,
              std::span<const std::int64_t> kernel, std::span<const int> dilations) {
  Window w;
  const std::size_t axes = x.size() - 2, skip = 3 - axes;
  for (std::size_t i = 0; i < axes; ++i) {
    w.input[skip + i] = x[2 + i];
    w.output[skip + i] = y[2 + i];
    w.kernel[skip + i] = kernel[i];
    w.stride[skip + i] = s.strides[i];
    w.dilation[skip + i] = dilations.empty() ? 1 : dilations[i];
    w.pad_begin[skip + i] = w.pad_end[skip + i] = s.pads[i];
  }
  return w;
}

cudnnStatus_t make_convolution(const cudnnTensorStruct& x, const cudnnFilterStruct& f, const cudnnConvolutionStruct& c,
                               const cudnnTensorStruct& y, Convolution& out) {
  if (x.type != f.type || x.type != y.type) return refuse("types differ");
  if (x.dims.size() != f.dims.size() || x.dims.size() != y.dims.size() || x.dims.size() != c.pads.size() + 2)
    return refuse("ranks differ");
  if (!x.is_row_major() || !y.is_row_major()) return refuse("a convolution that is not row-major is not emulated");
  if (x.type == DType::f32 && c.math != CUDNN_FMA_MATH) return refuse("f32 would be rounded to TF32");
  out.w = window(c, x.dims, y.dims, std::span(f.dims).subspan(2), c.sizes);
  out.batch = x.dims[0];
  out.channels = x.dims[1];
  out.filters = f.dims[0];
  out.group_channels = f.dims[1];
  out.group = c.group;
  if (y.dims[0] != out.batch || y.dims[1] != out.filters || out.group_channels * out.group != out.channels ||
      out.filters % out.group)
    return refuse("channels do not fit");
  for (std::size_t i = 0; i < 3; ++i) {
    const std::int64_t seen = out.w.input[i] + 2 * out.w.pad_begin[i] - (out.w.kernel[i] - 1) * out.w.dilation[i] - 1;
    if (seen / out.w.stride[i] + 1 != out.w.output[i]) return refuse("the output's extents are not the convolution's");
  }
  return CUDNN_STATUS_SUCCESS;
}

/// A nondeterministic algorithm first, which halfstep must pass over, then two that can be taken: a fast one with a
/// larger workspace, and one.
template <class Perf, class Algorithm>
cudnnStatus_t algorithms(cudnnStatus_t status, DType dtype, const Algorithm (&names)[3], int requested, int* found,
                         Perf* results) {
  if (emulation::fails("heuristic")) return CUDNN_STATUS_NOT_SUPPORTED;
  if (status != CUDNN_STATUS_SUCCESS) return status;
  if (requested < 3) return refuse("too few results asked for");
  const cudnnMathType_t math = dtype == DType::f32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH;
  results[0] = {names[0], CUDNN_STATUS_SUCCESS, -1, 0, CUDNN_NON_DETERMINISTIC, math, {}};
  results[1] = {names[1], CUDNN_STATUS_SUCCESS, -1, 4 * kWorkspace, CUDNN_DETERMINISTIC, math, {}};
  results[2] = {names[2], CUDNN_STATUS_SUCCESS, -1, kWorkspace, CUDNN_DETERMINISTIC, math, {}};
  *found = 3;
  return CUDNN_STATUS_SUCCESS;
}
constexpr cudnnConvolutionFwdAlgo_t kForward[] = {CUDNN_CONVOLUTION_FWD_ALGO_FFT,
                                                  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                                  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM};
constexpr cudnnConvolutionBwdDataAlgo_t kBackwardData[] = {
    CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1};
constexpr cudnnConvolutionBwdFilterAlgo_t kBackwardFilter[] = {
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1};

/// Whether the algorithm runs with that workspace.
template <class Algorithm>
cudnnStatus_t runs(const Algorithm (&names)[3], Algorithm algorithm, std::size_t workspace) {
  if (algorithm == names[0]) return refuse("another algorithm than a deterministic one");
  if (workspace < (algorithm == names[1] ? 4 * kWorkspace : kWorkspace)) return refuse("the workspace is too small");
  const std::size_t failing = emulation::machine().failing_workspace;
  if (!failing || workspace < failing) return CUDNN_STATUS_SUCCESS;
  emulation::leave_error(cudaErrorMemoryAllocation);
  return CUDNN_STATUS_ALLOC_FAILED;
}

/// Sums `product` of the operands into the result's offsets, in double, then writes result = alpha * sum.
struct Buffer {
  const cudnnTensorStruct& type;
  const void* p;
};
cudnnStatus_t check_buffers(std::initializer_list<Buffer> buffers, const void* workspace, std::size_t workspace_bytes) {
  for (const Buffer& b : buffers)
    if (!emulation::is_device(b.p, b.type.bytes())) return refuse("a tensor does not lie in device memory");
  if (workspace_bytes < kWorkspace || !emulation::is_device(workspace, workspace_bytes))
    return refuse("the workspace is too small");
  return CUDNN_STATUS_SUCCESS;
}
std::vector<double> zeros(const cudnnTensorStruct& t) {
  return std::vector<double>(t.bytes() / halfstep::bytes_of(t.type, 1));
}
void write(const std::vector<double>& values, DType type, void* to) {
  for (std::size_t i = 0; i < values.size(); ++i) emulation::store(type, to, static_cast<std::int64_t>(i), values[i]);
}

}  // namespace

extern "C" {

std::size_t cudnnGetVersion() { return emulation::fails("a cuDNN of today") ? 90100 : CUDNN_VERSION; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "a cuDNN status"; }
void cudnnGetLastErrorString(char* message, std::size_t size) {
  std::strncpy(message, emulation::refusal(), size);
  if (size) message[size - 1] = 0;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return make(handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) {
  return emulation::fails("descriptor") ? CUDNN_STATUS_BAD_PARAM : make(d);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t d, cudnnDataType_t type, int rank, const int dims[],
                                         const int strides[]) {
  if (rank < 4 || rank > 5) return refuse("a tensor must have 4 or 5 axes");
  *d = {dtype_of(type), {dims, dims + rank}, {strides, strides + rank}};
  return emulation::is_known_order(d->dims, d->strides) ? CUDNN_STATUS_SUCCESS
                                                        : refuse("a tensor in an order that is not emulated");
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* d) { return make(d); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type, cudnnTensorFormat_t format,
                                         int rank, const int dims[]) {
  if (format != CUDNN_TENSOR_NCHW || rank < 4 || rank > 5) return refuse("a filter must be NCHW of 4 or 5 axes");
  d->type = dtype_of(type);
  d->dims.assign(dims, dims + rank);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* d) { return make(d); }
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t d, int axes, const int pads[],
                                              const int strides[], const int dilations[], cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
  if (mode != CUDNN_CROSS_CORRELATION || compute != CUDNN_DATA_FLOAT)
    return refuse("ONNX's convolution is a cross-correlation, in f32");
  d->pads.assign(pads, pads + axes);
  d->strides.assign(strides, strides + axes);
  d->sizes.assign(dilations, dilations + axes);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int group) {
  d->group = group;
  return group > 0 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
  d->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                     const cudnnFilterDescriptor_t w,
                                                     const cudnnConvolutionDescriptor_t c,
                                                     const cudnnTensorDescriptor_t y, const int requested, int* found,
                                                     cudnnConvolutionFwdAlgoPerf_t* results) {
  Convolution v;
  return algorithms(make_convolution(*x, *w, *c, *y, v), x->type, kForward, requested, found, results);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, const cudnnFilterDescriptor_t w,
                                                          const cudnnTensorDescriptor_t dy,
                                                          const cudnnConvolutionDescriptor_t c,
                                                          const cudnnTensorDescriptor_t dx, const int requested,
                                                          int* found, cudnnConvolutionBwdDataAlgoPerf_t* results) {
  Convolution v;
  return algorithms(make_convolution(*dx, *w, *c, *dy, v), dx->type, kBackwardData, requested, found, results);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                            const cudnnTensorDescriptor_t dy,
                                                            const cudnnConvolutionDescriptor_t c,
                                                            const cudnnFilterDescriptor_t dw, const int requested,
                                                            int* found, cudnnConvolutionBwdFilterAlgoPerf_t* results) {
  Convolution v;
  return algorithms(make_convolution(*x, *dw, *c, *dy, v), x->type, kBackwardFilter, requested, found, results);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void*, const cudnnTensorDescriptor_t x,
                                      const void* xp, const cudnnFilterDescriptor_t w, const void* wp,
                                      const cudnnConvolutionDescriptor_t c, cudnnConvolutionFwdAlgo_t algorithm,
                                      void* workspace, size_t bytes, const void*, const cudnnTensorDescriptor_t y,
                                      void* yp) {
  Convolution v;
  if (auto s = make_convolution(*x, *w, *c, *y, v); s != CUDNN_STATUS_SUCCESS) return s;
  if (auto s = check_buffers({{*x, xp}, {*w, wp}, {*y, yp}}, workspace, bytes); s != CUDNN_STATUS_SUCCESS) return s;
  if (auto s = runs(kForward, algorithm, bytes); s != CUDNN_STATUS_SUCCESS) return s;
  emulation::submit(handle->stream, [v, t = *y, xp, wp, yp, workspace, bytes] {
    std::memset(workspace, 0xee, bytes);
    std::vector<double> sums = zeros(t);
    for_each_product(v, [&](std::int64_t i, std::int64_t k, std::int64_t o) {
      sums[static_cast<std::size_t>(o)] += emulation::load(t.type, xp, i) * emulation::load(t.type, wp, k);
    });
    write(sums, t.type, yp);
  });
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void*, const cudnnFilterDescriptor_t w,
                                           const void* wp, const cudnnTensorDescriptor_t dy, const void* dyp,
                                           const cudnnConvolutionDescriptor_t c,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* workspace, size_t bytes,
                                           const void*, const cudnnTensorDescriptor_t dx, void* dxp) {
  Convolution v;
  if (auto s = make_convolution(*dx, *w, *c, *dy, v); s != CUDNN_STATUS_SUCCESS) return s;
  if (auto s = check_buffers({{*dy, dyp}, {*w, wp}, {*dx, dxp}}, workspace, bytes); s != CUDNN_STATUS_SUCCESS) return s;
  if (auto s = runs(kBackwardData, algorithm, bytes); s != CUDNN_STATUS_SUCCESS) return s;
  emulation::submit(handle->stream, [v, t = *dx, wp, dyp, dxp, workspace, bytes] {
    std::memset(workspace, 0xee, bytes);
    std::vector<double> sums = zeros(t);
    for_each_product(v, [&](std::int64_t i, std::int64_t k, std::int64_t o) {
      sums[static_cast<std::size_t>(i)] += emulation::load(t.type, dyp, o) * emulation::load(t.type, wp, k);
    });
    write(sums, t.type, dxp);
  });
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void*, const cudnnTensorDescriptor_t x,
                                             const void* xp, const cudnnTensorDescriptor_t dy, const void* dyp,
                                             const cudnnConvolutionDescriptor_t c,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void* workspace, size_t bytes,
                                             const void*, const cudnnFilterDescriptor_t dw, void* dwp) {
  Convolution v;
  if (auto s = make_convolution(*x, *dw, *c, *dy, v); s != CUDNN_STATUS_SUCCESS) return s;
  if (auto s = check_buffers({{*x, xp}, {*dy, dyp}, {*dw, dwp}}, workspace, bytes); s != CUDNN_STATUS_SUCCESS) return s;
  if (auto s = runs(kBackwardFilter, algorithm, bytes); s != CUDNN_STATUS_SUCCESS) return s;
  emulation::submit(handle->stream, [v, t = *dw, xp, dyp, dwp, workspace, bytes] {
    std::memset(workspace, 0xee, bytes);
    std::vector<double> sums = zeros(t);
    for_each_product(v, [&](std::int64_t i, std::int64_t k, std::int64_t o) {
      sums[static_cast<std::size_t>(k)] += emulation::load(t.type, xp, i) * emulation::load(t.type, dyp, o);
    });
    write(sums, t.type, dwp);
  });
  return CUDNN_STATUS_SUCCESS;
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
    if (pads[i] >= sizes[i]) return refuse("a pad is as large as its window");
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetPoolingNdForwardOutputDim(const cudnnPoolingDescriptor_t d, const cudnnTensorDescriptor_t x,
                                                int rank, int dims[]) {
  if (static_cast<std::size_t>(rank) != x->dims.size()) return refuse("ranks differ");
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
  if (emulation::fails("pooling")) return CUDNN_STATUS_EXECUTION_FAILED;
  if (x->dims[0] >= 65536) return refuse("pooling takes fewer than 65536 images", CUDNN_STATUS_NOT_SUPPORTED);
  if (x->type != y->type || !std::equal(y->dims.begin(), y->dims.end(), dims.begin()))
    return refuse("the output's descriptor does not fit");
  if (!emulation::is_device(xp, x->bytes()) || !emulation::is_device(yp, y->bytes()))
    return refuse("a tensor does not lie in device memory");
  const std::vector<std::int64_t> kernel(d->sizes.begin(), d->sizes.end());
  const Window w = window(*d, x->dims, y->dims, kernel, {});
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
