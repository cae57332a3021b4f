// NVIDIA's own cuDNN keeps the weights of recurrent networks where the emulation does.
#include "executors/cudnn/recurrent_net.h"

#include <algorithm>
#include <array>
#include <string>

#include <gtest/gtest.h>

#include "tests/executors/cudnn/emulation/rnn_weights.h"

namespace halfstep::cudnn {
namespace {

using Tensor = WeightPiece::Tensor;

/// Handles are made where there is a device. What is asked here follows from the network alone, and cuDNN takes any
/// memory of zeros for a handle.
cudnnHandle_t no_handle() {
  alignas(64) static std::array<std::byte, 1 << 16> zeros{};
  return reinterpret_cast<cudnnHandle_t>(zeros.data());
}

/// Of the gates in ONNX's order the linear layers of cuDNN's.
std::vector<std::int64_t> linear_layers(cudnnRNNMode_t mode) {
  if (mode == CUDNN_LSTM) return {0, 3, 1, 2};  // i, o, f, c: input, forget, memory, output
  if (mode == CUDNN_GRU) return {1, 0, 2};      // z, r, h: reset, update, memory
  return {0};
}

TEST(RecurrentNet, WeightsLieWhereTheEmulationHasThem) {
  for (const cudnnRNNMode_t mode : {CUDNN_RNN_TANH, CUDNN_LSTM, CUDNN_GRU})
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
      for (const bool has_bias : {false, true})
        for (const std::int64_t directions : {1, 2}) {
          SCOPED_TRACE("mode " + std::to_string(mode) + " in " + std::string(name_of(dtype)) + ", " +
                       std::to_string(directions) + " directions" + (has_bias ? ", with bias" : ""));
          const RecurrentLayer layer{.mode = mode,
                                     .dtype = dtype,
                                     .has_bias = has_bias,
                                     .steps = 3,
                                     .batch = 2,
                                     .inputs = 7,
                                     .hidden = 5,
                                     .directions = directions};
          const DropoutDescriptor dropout = no_dropout(no_handle());
          const WeightSpace found = weight_space(no_handle(), rnn_descriptor(layer, {}, dropout), layer);
          const emulation::RnnWeights wanted{emulation::gates_of(mode), 7, 5, directions, has_bias};
          EXPECT_EQ(found.bytes, bytes_of(dtype, static_cast<std::size_t>(wanted.count())));
          const auto place_of = [&](Tensor tensor, std::int64_t from) {
            const auto is_it = [&](const WeightPiece& p) { return p.tensor == tensor && p.from == from; };
            const auto at = std::ranges::find_if(found.pieces, is_it);
            return at == found.pieces.end() ? -1 : at->space;
          };
          for (std::int64_t d = 0; d < directions; ++d)
            for (std::int64_t gate = 0; gate < wanted.gates; ++gate) {
              const std::int64_t linear = linear_layers(mode)[static_cast<std::size_t>(gate)];
              const std::int64_t row = (d * wanted.gates + gate) * 5, recurrent = linear + wanted.gates;
              EXPECT_EQ(place_of(Tensor::w, row * 7), wanted.matrix(d, linear));
              EXPECT_EQ(place_of(Tensor::r, row * 5), wanted.matrix(d, recurrent));
              if (!has_bias) continue;
              EXPECT_EQ(place_of(Tensor::b, (2 * d * wanted.gates + gate) * 5), wanted.bias(d, linear));
              EXPECT_EQ(place_of(Tensor::b, ((2 * d + 1) * wanted.gates + gate) * 5), wanted.bias(d, recurrent));
            }
          std::int64_t copied = 0;
          for (const WeightPiece& piece : found.pieces) copied += piece.count;
          EXPECT_EQ(copied, wanted.count()) << "no gap, and nothing twice";
        }
}

}  // namespace
}  // namespace halfstep::cudnn
