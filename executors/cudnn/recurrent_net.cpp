#include "executors/cudnn/recurrent_net.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string>

#include "executors/cudnn/descriptors.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

int int_of(std::int64_t extent) {
  if (extent > std::numeric_limits<int>::max())
    throw_failure("fewer than 2^31 elements in a tensor of a recurrent network", std::to_string(extent),
                  "take a smaller batch");
  return static_cast<int>(extent);
}

/// The gates of ONNX in the order of cuDNN's linear layers, as the documentation of cudnnGetRNNWeightParams has it: of
/// LSTM input, forget, new memory, output (ONNX: i, o, f, c); of GRU reset, update, new memory (ONNX: z, r, h).
std::span<const std::int64_t> gate_order(cudnnRNNMode_t mode) {
  static constexpr std::int64_t kLstm[] = {0, 2, 3, 1}, kGru[] = {1, 0, 2}, kRnn[] = {0};
  if (mode == CUDNN_LSTM) return kLstm;
  if (mode == CUDNN_GRU) return kGru;
  return kRnn;
}

RnnDataDescriptor data_descriptor(const RecurrentLayer& layer, std::int64_t features) {
  int_of(layer.steps * layer.batch * features);
  cudnnRNNDataDescriptor_t handle = nullptr;
  check(cudnnCreateRNNDataDescriptor(&handle), "cudnnCreateRNNDataDescriptor");
  RnnDataDescriptor descriptor(handle);
  const std::vector<int> lengths(static_cast<std::size_t>(layer.batch), int_of(layer.steps));
  check(cudnnSetRNNDataDescriptor(
            handle, data_type(layer.dtype).value(),
            layer.batch_first ? CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED : CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED,
            int_of(layer.steps), int_of(layer.batch), int_of(features), lengths.data(), nullptr),
        "cudnnSetRNNDataDescriptor");
  return descriptor;
}

TensorDescriptor new_tensor_descriptor() {
  cudnnTensorDescriptor_t handle = nullptr;
  check(cudnnCreateTensorDescriptor(&handle), "cudnnCreateTensorDescriptor");
  return TensorDescriptor(handle);
}

/// [directions, batch, hidden]
TensorDescriptor state_descriptor(const RecurrentLayer& layer) {
  TensorDescriptor descriptor = new_tensor_descriptor();
  const int dims[] = {int_of(layer.directions), int_of(layer.batch), int_of(layer.hidden)};
  const int strides[] = {int_of(layer.batch * layer.hidden), dims[2], 1};
  check(cudnnSetTensorNdDescriptor(descriptor.get(), data_type(layer.dtype).value(), 3, dims, strides),
        "cudnnSetTensorNdDescriptor");
  return descriptor;
}

}  // namespace

DropoutDescriptor no_dropout(cudnnHandle_t handle) {
  cudnnDropoutDescriptor_t dropout = nullptr;
  check(cudnnCreateDropoutDescriptor(&dropout), "cudnnCreateDropoutDescriptor");
  DropoutDescriptor descriptor(dropout);
  check(cudnnSetDropoutDescriptor(dropout, handle, 0, nullptr, 0, 0), "cudnnSetDropoutDescriptor");
  return descriptor;
}

RnnDescriptor rnn_descriptor(const RecurrentLayer& layer, const Arithmetic& arithmetic,
                             const DropoutDescriptor& dropout) {
  cudnnRNNDescriptor_t handle = nullptr;
  check(cudnnCreateRNNDescriptor(&handle), "cudnnCreateRNNDescriptor");
  RnnDescriptor descriptor(handle);
  // f32 stays f32, without tensor cores that round to TF32, unless they are asked for.
  const cudnnMathType_t math = layer.dtype != DType::f32 ? CUDNN_TENSOR_OP_MATH
                               : arithmetic.tf32         ? CUDNN_DEFAULT_MATH
                                                         : CUDNN_FMA_MATH;
  const int hidden = int_of(layer.hidden);
  check(cudnnSetRNNDescriptor_v8(handle, CUDNN_RNN_ALGO_STANDARD, layer.mode,
                                 layer.has_bias ? CUDNN_RNN_DOUBLE_BIAS : CUDNN_RNN_NO_BIAS,
                                 layer.directions == 2 ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT,
                                 data_type(layer.dtype).value(), CUDNN_DATA_FLOAT, math, int_of(layer.inputs), hidden,
                                 hidden, 1, dropout.get(), CUDNN_RNN_PADDED_IO_ENABLED),
        "cudnnSetRNNDescriptor_v8");
  return descriptor;
}

WeightSpace weight_space(cudnnHandle_t handle, const RnnDescriptor& rnn, const RecurrentLayer& layer) {
  WeightSpace space;
  check(cudnnGetRNNWeightSpaceSize(handle, rnn.get(), &space.bytes), "cudnnGetRNNWeightSpaceSize");
  const auto element = static_cast<std::int64_t>(bytes_of(layer.dtype, 1));
  const std::span<const std::int64_t> order = gate_order(layer.mode);
  const auto gates = static_cast<std::int64_t>(order.size());

  // Only distances count: no memory is there yet.
  alignas(256) static const std::byte base{};
  const TensorDescriptor matrix_descriptor = new_tensor_descriptor(), bias_descriptor = new_tensor_descriptor();
  const auto add = [&](WeightPiece::Tensor tensor, std::int64_t from, const void* at, std::int64_t count) {
    const auto bytes =
        static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(at) - reinterpret_cast<std::uintptr_t>(&base));
    if (!at || bytes < 0 || bytes % element != 0 || static_cast<std::size_t>(bytes + count * element) > space.bytes)
      throw_failure("weights within cuDNN's weight space",
                    "a place " + std::to_string(bytes) + " bytes behind its begin",
                    "run with --executor onednn, and report the model and this message");
    space.pieces.push_back({tensor, from, bytes / element, count});
  };
  for (std::int64_t d = 0; d < layer.directions; ++d)
    for (std::int64_t linear = 0; linear < 2 * gates; ++linear) {
      void *matrix = nullptr, *bias = nullptr;
      check(cudnnGetRNNWeightParams(handle, rnn.get(), int_of(d), space.bytes, &base, int_of(linear),
                                    matrix_descriptor.get(), &matrix, bias_descriptor.get(), &bias),
            "cudnnGetRNNWeightParams");
      const bool is_recurrent = linear >= gates;
      const std::int64_t gate = order[static_cast<std::size_t>(is_recurrent ? linear - gates : linear)],
                         row = (d * gates + gate) * layer.hidden;
      const std::int64_t columns = is_recurrent ? layer.hidden : layer.inputs;
      add(is_recurrent ? WeightPiece::Tensor::r : WeightPiece::Tensor::w, row * columns, matrix,
          layer.hidden * columns);
      if (layer.has_bias)
        add(WeightPiece::Tensor::b, ((2 * d + is_recurrent) * gates + gate) * layer.hidden, bias, layer.hidden);
    }
  return space;
}

RecurrentNet::RecurrentNet(cudnnHandle_t handle, const RecurrentLayer& layer, const Arithmetic& arithmetic,
                           cudnnForwardMode_t mode)
    : layer_(layer),
      mode_(mode),
      dropout_(no_dropout(handle)),
      rnn_(rnn_descriptor(layer, arithmetic, dropout_)),
      x_(data_descriptor(layer, layer.inputs)),
      y_(data_descriptor(layer, layer.directions * layer.hidden)),
      state_(state_descriptor(layer)),
      weights_(weight_space(handle, rnn_, layer)) {
  check(cudnnGetRNNTempSpaceSizes(handle, rnn_.get(), mode, x_.get(), &workspace_,
                                  mode == CUDNN_FWD_MODE_TRAINING ? &reserve_ : nullptr),
        "cudnnGetRNNTempSpaceSizes");
}

}  // namespace halfstep::cudnn
