#include "ops/recurrent/recurrent_cell.h"

#include <algorithm>
#include <cmath>

namespace halfstep::ops {
namespace {

double activate(const CellWeights& weights, std::size_t function, double net) {
  return weights.activations[function].value(std::clamp(net, -weights.clip, weights.clip));
}
// As in PyTorch's clamp: gradients pass at the bounds themselves.
double slope(const CellWeights& weights, std::size_t function, double net) {
  return std::fabs(net) > weights.clip ? 0 : weights.activations[function].slope(net);
}

/// out[first .. first + rows) = matrix rows of that range times x, plus bias.
void multiply(std::span<const double> matrix, std::span<const double> x, std::span<const double> bias,
              std::size_t first, std::size_t rows, Row& out) {
  for (std::size_t row = first; row < first + rows; ++row) {
    double sum = bias.empty() ? 0 : bias[row];
    for (std::size_t i = 0; i < x.size(); ++i) sum += matrix[row * x.size() + i] * x[i];
    out[row] = sum;
  }
}

/// dx += matrix^T dy, for the rows of that range.
void multiply_back(std::span<const double> matrix, std::span<const double> dy, std::size_t first, std::size_t rows,
                   std::span<double> dx) {
  for (std::size_t row = first; row < first + rows; ++row)
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += matrix[row * dx.size() + i] * dy[row];
}

/// dmatrix += dy x^T, for the rows of that range.
void add_outer(std::span<const double> dy, std::span<const double> x, std::size_t first, std::size_t rows,
               std::span<double> dmatrix) {
  for (std::size_t row = first; row < first + rows; ++row)
    for (std::size_t i = 0; i < x.size(); ++i) dmatrix[row * x.size() + i] += dy[row] * x[i];
}

void add(std::span<const double> from, std::span<double> to) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

}  // namespace

// RNN -----------------------------------------------------------------------------------------------------------------

void RnnCell::forward(const CellWeights& weights, CellStep& s) {
  multiply(weights.r, s.h0, weights.r_bias, 0, weights.hidden, s.recurrent);
  for (std::size_t k = 0; k < weights.hidden; ++k) {
    s.net[k] = s.input[k] + s.recurrent[k];
    s.h[k] = s.gate[k] = activate(weights, 0, s.net[k]);
  }
}

void RnnCell::backward(const CellWeights& weights, const CellStep& s, Row& dh, Row&, CellStepGradient& sums,
                       CellWeightGradients&) {
  for (std::size_t k = 0; k < weights.hidden; ++k) {
    sums.input[k] = sums.recurrent[k] = dh[k] * slope(weights, 0, s.net[k]);
    dh[k] = 0;
  }
}

// LSTM ----------------------------------------------------------------------------------------------------------------

void LstmCell::forward(const CellWeights& weights, CellStep& s) {
  const std::size_t n = weights.hidden;
  auto peephole = [&](std::size_t gate, std::size_t k, double x) {
    return weights.peepholes.empty() ? 0 : weights.peepholes[gate * n + k] * x;
  };
  multiply(weights.r, s.h0, weights.r_bias, 0, 4 * n, s.recurrent);
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t i = k, o = n + k, f = 2 * n + k, c = 3 * n + k;
    for (std::size_t gate : {i, o, f, c}) s.net[gate] = s.input[gate] + s.recurrent[gate];
    s.net[i] += peephole(0, k, s.c0[k]);
    s.net[f] += peephole(2, k, s.c0[k]);
    s.gate[i] = activate(weights, 0, s.net[i]);
    s.gate[f] = weights.input_forget ? 1 - s.gate[i] : activate(weights, 0, s.net[f]);
    s.gate[c] = activate(weights, 1, s.net[c]);
    s.c[k] = s.gate[f] * s.c0[k] + s.gate[i] * s.gate[c];
    s.net[o] += peephole(1, k, s.c[k]);
    s.gate[o] = activate(weights, 0, s.net[o]);
    s.h[k] = s.gate[o] * activate(weights, 2, s.c[k]);
  }
}

void LstmCell::backward(const CellWeights& weights, const CellStep& s, Row& dh, Row& dc, CellStepGradient& sums,
                        CellWeightGradients& gradients) {
  const std::size_t n = weights.hidden;
  auto peephole = [&](std::size_t gate, std::size_t k, double x) {
    return weights.peepholes.empty() ? 0 : weights.peepholes[gate * n + k] * x;
  };
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t i = k, o = n + k, f = 2 * n + k, c = 3 * n + k;
    const double d_o = dh[k] * activate(weights, 2, s.c[k]) * slope(weights, 0, s.net[o]);
    const double d_cell = dc[k] + dh[k] * s.gate[o] * slope(weights, 2, s.c[k]) + peephole(1, k, d_o);
    const double d_forget = d_cell * s.c0[k];
    const double d_input = d_cell * s.gate[c] - (weights.input_forget ? d_forget : 0);
    const double d_i = d_input * slope(weights, 0, s.net[i]);
    const double d_f = weights.input_forget ? 0 : d_forget * slope(weights, 0, s.net[f]);
    sums.input[i] = d_i;
    sums.input[o] = d_o;
    sums.input[f] = d_f;
    sums.input[c] = d_cell * s.gate[i] * slope(weights, 1, s.net[c]);
    dh[k] = 0;
    dc[k] = d_cell * s.gate[f] + peephole(0, k, d_i) + peephole(2, k, d_f);
    if (!gradients.peepholes.empty()) {
      gradients.peepholes[k] += d_i * s.c0[k];
      gradients.peepholes[n + k] += d_o * s.c[k];
      gradients.peepholes[2 * n + k] += d_f * s.c0[k];
    }
  }
  sums.recurrent = sums.input;
}

// GRU -----------------------------------------------------------------------------------------------------------------

void GruCell::forward(const CellWeights& weights, CellStep& s) {
  const std::size_t n = weights.hidden;
  const bool linear = weights.linear_before_reset;
  multiply(weights.r, s.h0, weights.r_bias, 0, linear ? 3 * n : 2 * n, s.recurrent);
  for (std::size_t row = 0; row < 2 * n; ++row) {
    s.net[row] = s.input[row] + s.recurrent[row];
    s.gate[row] = activate(weights, 0, s.net[row]);
  }
  if (!linear) {
    s.reset.resize(n);
    for (std::size_t k = 0; k < n; ++k) s.reset[k] = s.gate[n + k] * s.h0[k];
    multiply(weights.r, s.reset, weights.r_bias, 2 * n, n, s.recurrent);
  }
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t z = k, r = n + k, h = 2 * n + k;
    s.net[h] = s.input[h] + (linear ? s.gate[r] * s.recurrent[h] : s.recurrent[h]);
    s.gate[h] = activate(weights, 1, s.net[h]);
    s.h[k] = (1 - s.gate[z]) * s.gate[h] + s.gate[z] * s.h0[k];
  }
}

void GruCell::backward(const CellWeights& weights, const CellStep& s, Row& dh, Row&, CellStepGradient& sums,
                       CellWeightGradients&) {
  const std::size_t n = weights.hidden;
  const bool linear = weights.linear_before_reset;
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t z = k, r = n + k, h = 2 * n + k;
    sums.input[h] = dh[k] * (1 - s.gate[z]) * slope(weights, 1, s.net[h]);
    sums.recurrent[h] = sums.input[h] * (linear ? s.gate[r] : 1);
    sums.input[z] = sums.recurrent[z] = dh[k] * (s.h0[k] - s.gate[h]) * slope(weights, 0, s.net[z]);
    dh[k] *= s.gate[z];
  }
  Row d_reset(n);
  if (!linear) multiply_back(weights.r, sums.recurrent, 2 * n, n, d_reset);
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t r = n + k, h = 2 * n + k;
    const double d_gate = linear ? sums.input[h] * s.recurrent[h] : d_reset[k] * s.h0[k];
    sums.input[r] = sums.recurrent[r] = d_gate * slope(weights, 0, s.net[r]);
    dh[k] += d_reset[k] * s.gate[r];
  }
}

// Any -----------------------------------------------------------------------------------------------------------------

template <class Cell>
void run_step(const CellWeights& weights, CellStep& step) {
  const std::size_t rows = Cell::kGates * weights.hidden;
  for (Row* row : {&step.input, &step.recurrent, &step.net, &step.gate}) row->resize(rows);
  step.h.resize(weights.hidden);
  step.c.resize(Cell::kStates == 2 ? weights.hidden : 0);
  multiply(weights.w, step.x, weights.w_bias, 0, rows, step.input);
  Cell::forward(weights, step);
}

template <class Cell>
void run_step_back(const CellWeights& weights, const CellStep& step, Row& dh, Row& dc, CellWeightGradients& gradients,
                   std::span<double> dx) {
  const std::size_t rows = Cell::kGates * weights.hidden;
  CellStepGradient sums{Row(rows), Row(rows)};
  Cell::backward(weights, step, dh, dc, sums, gradients);
  // The last gate of a GRU may have read r (.) h0 instead of h0; GruCell::backward handles its gradient.
  const std::size_t from_reset = step.reset.empty() ? 0 : weights.hidden, from_state = rows - from_reset;
  multiply_back(weights.w, sums.input, 0, rows, dx);
  multiply_back(weights.r, sums.recurrent, 0, from_state, dh);
  add_outer(sums.input, step.x, 0, rows, gradients.w);
  add_outer(sums.recurrent, step.h0, 0, from_state, gradients.r);
  add_outer(sums.recurrent, step.reset, from_state, from_reset, gradients.r);
  add(sums.input, gradients.w_bias);
  add(sums.recurrent, gradients.r_bias);
}

template void run_step<RnnCell>(const CellWeights&, CellStep&);
template void run_step<LstmCell>(const CellWeights&, CellStep&);
template void run_step<GruCell>(const CellWeights&, CellStep&);
template void run_step_back<RnnCell>(const CellWeights&, const CellStep&, Row&, Row&, CellWeightGradients&,
                                     std::span<double>);
template void run_step_back<LstmCell>(const CellWeights&, const CellStep&, Row&, Row&, CellWeightGradients&,
                                      std::span<double>);
template void run_step_back<GruCell>(const CellWeights&, const CellStep&, Row&, Row&, CellWeightGradients&,
                                     std::span<double>);

}  // namespace halfstep::ops
