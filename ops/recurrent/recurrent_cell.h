// A forward and backward step of an RNN, LSTM or GRU on one sequence: the reference for the executors.
#pragma once

#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "ops/recurrent/recurrent.h"

namespace halfstep::ops {

using Row = std::vector<double>;

/// Weights of one direction. Gates are concatenated, with H rows each, in ONNX's order.
struct CellWeights {
  std::size_t inputs, hidden;
  std::span<const double> w;               ///< [gates*H, I]
  std::span<const double> r;               ///< [gates*H, H]
  std::span<const double> w_bias, r_bias;  ///< [gates*H] each, or empty
  std::span<const double> peepholes;       ///< [3*H] for gates i, o, f of LSTM, or empty
  std::span<const RecurrentActivation> activations;
  double clip;
  bool input_forget, linear_before_reset;
};

/// Gradients of the same, which are added to.
struct CellWeightGradients {
  std::span<double> w, r, w_bias, r_bias, peepholes;
};

/// The values of a step, kept for the backward step.
struct CellStep {
  std::span<const double> x;
  Row h0, c0;     ///< state before; c only for LSTM
  Row input;      ///< [gates*H] W x + bias
  Row recurrent;  ///< [gates*H] R h + bias; for GRU's hidden gate R (r (.) h) unless linear_before_reset
  Row net;        ///< [gates*H] inputs of the activations, before clipping
  Row gate;       ///< [gates*H] results of the activations
  Row reset;      ///< GRU: r (.) h0
  Row h, c;       ///< state after
};

/// Gradients of the two sums of a step, [gates*H] each.
struct CellStepGradient {
  Row input, recurrent;
};

// A cell kind has
//   kGates, kStates    numbers of gates, and of state tensors (h, or h and c)
//   kActivations       default activations of one direction
//   forward(weights, step)
//                      all of a step from h0, c0 and `input`
//   backward(weights, step, dh, dc, sums, gradients)
//                      `sums` from dh, dc, the gradients of h and c, which become those of h0 and c0 except what flows
//                      through R h0; adds to the peepholes' gradient

struct RnnCell {
  static constexpr std::size_t kGates = 1, kStates = 1;
  static constexpr std::array kActivations = {std::string_view("Tanh")};
  static void forward(const CellWeights& weights, CellStep& step);
  static void backward(const CellWeights& weights, const CellStep& step, Row& dh, Row& dc, CellStepGradient& sums,
                       CellWeightGradients& gradients);
};

struct LstmCell {
  static constexpr std::size_t kGates = 4, kStates = 2;  // i, o, f, c
  static constexpr std::array kActivations = {std::string_view("Sigmoid"), std::string_view("Tanh"),
                                              std::string_view("Tanh")};
  static void forward(const CellWeights& weights, CellStep& step);
  static void backward(const CellWeights& weights, const CellStep& step, Row& dh, Row& dc, CellStepGradient& sums,
                       CellWeightGradients& gradients);
};

struct GruCell {
  static constexpr std::size_t kGates = 3, kStates = 1;  // z, r, h
  static constexpr std::array kActivations = {std::string_view("Sigmoid"), std::string_view("Tanh")};
  static void forward(const CellWeights& weights, CellStep& step);
  static void backward(const CellWeights& weights, const CellStep& step, Row& dh, Row& dc, CellStepGradient& sums,
                       CellWeightGradients& gradients);
};

/// Runs x through one cell: sets all fields of a step from x, h0 and c0.
template <class Cell>
void run_step(const CellWeights& weights, CellStep& step);

/// The backward step: dh and dc, gradients of h and c, become those of h0 and c0; adds to the weights' gradients and
/// dx.
template <class Cell>
void run_step_back(const CellWeights& weights, const CellStep& step, Row& dh, Row& dc, CellWeightGradients& gradients,
                   std::span<double> dx);

}  // namespace halfstep::ops
