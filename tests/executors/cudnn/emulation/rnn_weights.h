// Where cuDNN keeps a recurrent layer's weights: the matrices of all linear layers one after the other, of one
// direction and then of the other, and behind all of them the biases in the same order. NVIDIA's own library answers
// so, which recurrent_net_test.cpp asks.
#pragma once

#include <cstdint>

#include <cudnn.h>

namespace emulation {

struct RnnWeights {
  std::int64_t gates, inputs, hidden, directions;
  bool has_bias;

  /// The first element of a linear layer's matrix: from 0 on those of the input, from `gates` on the recurrent ones.
  std::int64_t matrix(std::int64_t direction, std::int64_t linear) const {
    const std::int64_t before = linear < gates ? linear * inputs : gates * inputs + (linear - gates) * hidden;
    return direction * matrices() + before * hidden;
  }
  std::int64_t bias(std::int64_t direction, std::int64_t linear) const {
    return directions * matrices() + (direction * 2 * gates + linear) * hidden;
  }
  std::int64_t count() const { return bias(has_bias ? directions : 0, 0); }

 private:
  std::int64_t matrices() const { return gates * hidden * (inputs + hidden); }
};

inline std::int64_t gates_of(cudnnRNNMode_t mode) { return mode == CUDNN_LSTM ? 4 : mode == CUDNN_GRU ? 3 : 1; }

}  // namespace emulation
