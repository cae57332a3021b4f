// cuDNN's recurrent networks of one layer, with tanh, LSTM and GRU.
#include <cstring>
#include <span>
#include <vector>

#include <cudnn.h>

#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/cudnn_handle.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/pending_error.h"
#include "tests/executors/cudnn/emulation/rnn_layer.h"

using emulation::destroy;
using emulation::dtype_of;
using emulation::refuse_call;
using emulation::RnnLayer;
using halfstep::DType;

struct cudnnDropoutStruct {
  bool is_set = false;
};
namespace {

template <class T>
cudnnStatus_t make(const char* call, T** handle) {
  if (emulation::fails(call)) return CUDNN_STATUS_BAD_PARAM;
  return emulation::make(handle);
}

/// Whether a call's descriptors and memory are as the manual wants them; `must` be there, `may` be null.
struct Memory {
  const void* p;
  std::size_t bytes;
};
cudnnStatus_t check_call(const char* call, const RnnLayer& a, cudnnTensorDescriptor_t state,
                         std::initializer_list<Memory> must, std::initializer_list<Memory> may, Memory workspace,
                         std::size_t weight_bytes) {
  if (emulation::fails(call)) {
    emulation::leave_error(cudaErrorMemoryAllocation);
    if (emulation::machine().failing_breaks_capture) emulation::break_capture();
    return CUDNN_STATUS_EXECUTION_FAILED;
  }
  cudnnRNNDataStruct y = a.x_at;
  y.features = a.rnn.weights.directions * a.hidden();
  if (a.x_at.type != a.rnn.type || a.x_at.features != a.rnn.weights.inputs || a.y_at != y)
    return refuse_call("data that do not fit the network");
  cudnnDataType_t type{};
  int rank = 0, dims[5] = {}, strides[5] = {};
  cudnnGetTensorNdDescriptor(state, 5, &type, &rank, dims, strides);
  if (rank != 3 || dtype_of(type) != a.rnn.type || dims[0] != a.rnn.weights.directions || dims[1] != a.batch() ||
      dims[2] != a.hidden())
    return refuse_call("a state that is not [directions, batch, hidden]");
  if (weight_bytes != a.rnn.weight_bytes()) return refuse_call("another size than the weight space's");
  for (const Memory& m : must)
    if (!emulation::is_device(m.p, m.bytes)) return refuse_call("a tensor does not lie in device memory");
  for (const Memory& m : may)
    if (m.p && !emulation::is_device(m.p, m.bytes)) return refuse_call("a tensor does not lie in device memory");
  if (workspace.bytes < emulation::machine().recurrent_workspace ||
      !emulation::is_workspace(workspace.p, workspace.bytes))
    return refuse_call("the workspace is too small, or not aligned to 256 bytes");
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t* d) {
  return make("cudnnCreateDropoutDescriptor", d);
}
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t d, cudnnHandle_t, float dropped, void* states, size_t,
                                        unsigned long long) {
  if (emulation::fails("cudnnSetDropoutDescriptor")) return CUDNN_STATUS_BAD_PARAM;
  if (dropped != 0 || states) return refuse_call("dropout is not emulated");
  d->is_set = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t* d) { return make("cudnnCreateRNNDescriptor", d); }
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t d, cudnnRNNAlgo_t algorithm, cudnnRNNMode_t mode,
                                       cudnnRNNBiasMode_t biases, cudnnDirectionMode_t directions,
                                       cudnnRNNInputMode_t input, cudnnDataType_t type, cudnnDataType_t compute,
                                       cudnnMathType_t math, int32_t inputs, int32_t hidden, int32_t projected,
                                       int32_t layers, cudnnDropoutDescriptor_t dropout, uint32_t flags) {
  if (emulation::fails("cudnnSetRNNDescriptor_v8")) return CUDNN_STATUS_BAD_PARAM;
  if (algorithm != CUDNN_RNN_ALGO_STANDARD || mode == CUDNN_RNN_RELU || input != CUDNN_LINEAR_INPUT || layers != 1 ||
      projected != hidden || (biases != CUDNN_RNN_NO_BIAS && biases != CUDNN_RNN_DOUBLE_BIAS))
    return refuse_call("a network that is not emulated", CUDNN_STATUS_NOT_SUPPORTED);
  if (compute != CUDNN_DATA_FLOAT || dtype_of(type) == DType::undefined) return refuse_call("sums must be f32");
  if (!dropout || !dropout->is_set) return refuse_call("no dropout descriptor");
  if (flags != CUDNN_RNN_PADDED_IO_ENABLED) return refuse_call("layouts that are not packed have to be allowed");
  if (inputs <= 0 || hidden <= 0) return refuse_call("extents must be positive");
  d->mode = mode;
  d->type = dtype_of(type);
  d->is_rounded = d->type == DType::f32 && math != CUDNN_FMA_MATH;
  d->weights = {emulation::gates_of(mode), inputs, hidden, directions == CUDNN_BIDIRECTIONAL ? 2 : 1,
                biases == CUDNN_RNN_DOUBLE_BIAS};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t* d) {
  return make("cudnnCreateRNNDataDescriptor", d);
}
cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t d, cudnnDataType_t type, cudnnRNNDataLayout_t layout,
                                        int steps, int batch, int features, const int lengths[], void*) {
  if (emulation::fails("cudnnSetRNNDataDescriptor")) return CUDNN_STATUS_BAD_PARAM;
  if (steps <= 0 || batch <= 0 || features <= 0)
    return refuse_call("maxSeqLength <= 0 || batchSize <= 0 || vectorSize <= 0");
  for (const int length : std::span(lengths, static_cast<std::size_t>(batch)))
    if (length != steps)
      return refuse_call("sequences of several lengths are not emulated", CUDNN_STATUS_NOT_SUPPORTED);
  if (layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED) return refuse_call("a packed layout is not emulated");
  *d = {dtype_of(type), layout == CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED, steps, batch, features};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t, cudnnRNNDescriptor_t d, size_t* bytes) {
  if (emulation::fails("cudnnGetRNNWeightSpaceSize")) return CUDNN_STATUS_BAD_PARAM;
  *bytes = d->weight_bytes();
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t, cudnnRNNDescriptor_t d, int32_t layer, size_t bytes,
                                      const void* space, int32_t linear, cudnnTensorDescriptor_t, void** matrix,
                                      cudnnTensorDescriptor_t, void** bias) {
  if (emulation::fails("cudnnGetRNNWeightParams")) return CUDNN_STATUS_BAD_PARAM;
  const emulation::RnnWeights& w = d->weights;
  if (layer < 0 || layer >= w.directions || linear < 0 || linear >= 2 * w.gates || bytes != d->weight_bytes())
    return refuse_call("no such linear layer");
  const auto at = [&](std::int64_t element) {
    return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(space) +
                                   halfstep::bytes_of(d->type, static_cast<std::size_t>(element)));
  };
  *matrix = at(w.matrix(layer, linear));
  *bias = w.has_bias ? at(w.bias(layer, linear)) : nullptr;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t, cudnnRNNDescriptor_t d, cudnnForwardMode_t mode,
                                        cudnnRNNDataDescriptor_t x, size_t* workspace, size_t* reserve) {
  if (emulation::fails("cudnnGetRNNTempSpaceSizes")) return CUDNN_STATUS_BAD_PARAM;
  if (d->type == DType::bf16 && emulation::machine().major < 8)
    return refuse_call("bf16 on a device older than 8.0", CUDNN_STATUS_NOT_SUPPORTED);
  *workspace = emulation::machine().recurrent_workspace;
  if (reserve) *reserve = mode == CUDNN_FWD_MODE_TRAINING ? RnnLayer{*d, *x, {}}.reserve_bytes() : 0;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t d, cudnnForwardMode_t mode, const int32_t*,
                              cudnnRNNDataDescriptor_t x_at, const void* x, cudnnRNNDataDescriptor_t y_at, void* y,
                              cudnnTensorDescriptor_t h_at, const void* h0, void* h, cudnnTensorDescriptor_t c_at,
                              const void* c0, void* c, size_t weight_bytes, const void* weights, size_t workspace_bytes,
                              void* workspace, size_t reserve_bytes, void* reserve) {
  const RnnLayer a{*d, *x_at, *y_at, x, h0, c0, weights, y, static_cast<std::byte*>(reserve)};
  if ((d->mode == CUDNN_LSTM) != (c_at != nullptr) || (!c_at && (c0 || c)))
    return refuse_call("only an LSTM has a cell");
  const std::size_t state = a.state_bytes();
  if (auto s =
          check_call("cudnnRNNForward", a, h_at, {{x, x_at->bytes()}, {y, y_at->bytes()}, {weights, weight_bytes}},
                     {{h0, state}, {h, state}, {c0, state}, {c, state}}, {workspace, workspace_bytes}, weight_bytes);
      s != CUDNN_STATUS_SUCCESS)
    return s;
  const bool is_training = mode == CUDNN_FWD_MODE_TRAINING;
  if (is_training && (reserve_bytes < a.reserve_bytes() || !emulation::is_device(reserve, reserve_bytes)))
    return refuse_call("the reserve is too small");
  emulation::submit(handle->stream, [a, h, c, is_training, workspace, workspace_bytes] {
    emulation::take_time("recurrent", 0);
    std::memset(workspace, 0xee, workspace_bytes);
    RnnLayer with = a;
    std::vector<double> own(is_training ? 0 : a.reserve_bytes() / sizeof(double) + 1);
    if (!is_training) with.reserve = reinterpret_cast<std::byte*>(own.data());
    emulation::run_forward(with, h, c);
  });
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnRNNBackwardData_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t d, const int32_t*,
                                      cudnnRNNDataDescriptor_t y_at, const void* y, const void* dy,
                                      cudnnRNNDataDescriptor_t x_at, void* dx, cudnnTensorDescriptor_t h_at,
                                      const void* h0, const void* dh_last, void* dh, cudnnTensorDescriptor_t c_at,
                                      const void* c0, const void* dc_last, void* dc, size_t weight_bytes,
                                      const void* weights, size_t workspace_bytes, void* workspace,
                                      size_t reserve_bytes, void* reserve) {
  const RnnLayer a{*d, *x_at, *y_at, nullptr, h0, c0, weights, const_cast<void*>(y), static_cast<std::byte*>(reserve)};
  if ((d->mode == CUDNN_LSTM) != (c_at != nullptr) || (!c_at && (c0 || dc_last || dc)))
    return refuse_call("only an LSTM has a cell");
  const std::size_t state = a.state_bytes();
  if (auto s = check_call("cudnnRNNBackwardData_v8", a, h_at,
                          {{y, y_at->bytes()},
                           {dy, y_at->bytes()},
                           {dx, x_at->bytes()},
                           {weights, weight_bytes},
                           {reserve, reserve_bytes}},
                          {{h0, state}, {dh_last, state}, {dh, state}, {c0, state}, {dc_last, state}, {dc, state}},
                          {workspace, workspace_bytes}, weight_bytes);
      s != CUDNN_STATUS_SUCCESS)
    return s;
  if (reserve_bytes < a.reserve_bytes()) return refuse_call("the reserve is too small");
  emulation::submit(handle->stream, [=, to = emulation::RnnDataGradients{dy, dh_last, dc_last, dx, dh, dc}] {
    emulation::take_time("recurrent", 1);
    std::memset(workspace, 0xee, workspace_bytes);
    emulation::run_data(a, to);
  });
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t d, cudnnWgradMode_t mode,
                                         const int32_t*, cudnnRNNDataDescriptor_t x_at, const void* x,
                                         cudnnTensorDescriptor_t h_at, const void* h0, cudnnRNNDataDescriptor_t y_at,
                                         const void* y, size_t weight_bytes, void* d_weights, size_t workspace_bytes,
                                         void* workspace, size_t reserve_bytes, void* reserve) {
  const RnnLayer a{*d, *x_at, *y_at, x, h0, nullptr, nullptr, const_cast<void*>(y), static_cast<std::byte*>(reserve)};
  if (mode != CUDNN_WGRAD_MODE_ADD) return refuse_call("gradients can only be added", CUDNN_STATUS_NOT_SUPPORTED);
  if (auto s = check_call("cudnnRNNBackwardWeights_v8", a, h_at,
                          {{x, x_at->bytes()}, {y, y_at->bytes()}, {d_weights, weight_bytes}, {reserve, reserve_bytes}},
                          {{h0, a.state_bytes()}}, {workspace, workspace_bytes}, weight_bytes);
      s != CUDNN_STATUS_SUCCESS)
    return s;
  if (reserve_bytes < a.reserve_bytes()) return refuse_call("the reserve is too small");
  emulation::submit(handle->stream, [=] {
    emulation::take_time("recurrent", 2);
    std::memset(workspace, 0xee, workspace_bytes);
    emulation::run_weights(a, d_weights);
  });
  return CUDNN_STATUS_SUCCESS;
}
}
