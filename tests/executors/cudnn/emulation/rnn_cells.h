// The cells of cuDNN's recurrent networks, by the formulas of its documentation and with its order of gates.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include <cudnn.h>

namespace emulation {

using Numbers = std::vector<double>;

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// One unit at one step: the sums over the input and over the state before, with their biases, by linear layer.
struct RnnUnit {
  Numbers from_input, from_state;
  double h0 = 0, c0 = 0;  ///< before
  Numbers gates = {};     ///< after the activations
  double h = 0, c = 0;    ///< after
};

inline void run(cudnnRNNMode_t mode, RnnUnit& u) {
  const auto sum = [&](std::size_t g) { return u.from_input[g] + u.from_state[g]; };
  if (mode == CUDNN_LSTM) {  // i, f, c', o
    u.gates = {sigmoid(sum(0)), sigmoid(sum(1)), std::tanh(sum(2)), sigmoid(sum(3))};
    u.c = u.gates[1] * u.c0 + u.gates[0] * u.gates[2];
    u.h = u.gates[3] * std::tanh(u.c);
  } else if (mode == CUDNN_GRU) {  // r, i, h'
    const double reset = sigmoid(sum(0)), update = sigmoid(sum(1));
    u.gates = {reset, update, std::tanh(u.from_input[2] + reset * u.from_state[2])};
    u.h = (1 - update) * u.gates[2] + update * u.h0;
  } else {
    u.h = std::tanh(sum(0));
    u.gates = {u.h};
  }
}

/// What flows back from dh and dc, which become the parts of the gradients of h0 and c0 that do not flow through the
/// sums: the gradients of these.
struct RnnUnitGradient {
  Numbers from_input, from_state;
};

inline RnnUnitGradient run_back(cudnnRNNMode_t mode, const RnnUnit& u, double& dh, double& dc) {
  const Numbers& g = u.gates;
  const auto of_sigmoid = [](double y) { return y * (1 - y); };
  const auto of_tanh = [](double y) { return 1 - y * y; };
  RnnUnitGradient d;
  if (mode == CUDNN_LSTM) {
    const double squashed = std::tanh(u.c), cell = dc + dh * g[3] * of_tanh(squashed);
    d.from_input = {cell * g[2] * of_sigmoid(g[0]), cell * u.c0 * of_sigmoid(g[1]), cell * g[0] * of_tanh(g[2]),
                    dh * squashed * of_sigmoid(g[3])};
    d.from_state = d.from_input;
    dc = cell * g[1];
    dh = 0;
  } else if (mode == CUDNN_GRU) {
    const double memory = dh * (1 - g[1]) * of_tanh(g[2]);
    d.from_input = {memory * u.from_state[2] * of_sigmoid(g[0]), dh * (u.h0 - g[2]) * of_sigmoid(g[1]), memory};
    d.from_state = {d.from_input[0], d.from_input[1], memory * g[0]};
    dh *= g[1];
  } else {
    d.from_input = d.from_state = {dh * of_tanh(g[0])};
    dh = 0;
  }
  return d;
}

}  // namespace emulation
