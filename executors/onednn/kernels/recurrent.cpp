// RNN, LSTM and GRU as exporters write them, and their gradients: one product for the inputs of all steps, then a
// small product and the cell for each step.
#include "ops/recurrent.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"

namespace halfstep::onednn {
namespace {

enum class Cell { rnn_tanh, rnn_relu, lstm, gru };

struct Problem {
  Cell cell = Cell::rnn_tanh;
  std::int64_t gates = 1, steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1;
  std::array<bool, 2> reverse{};

  std::int64_t rows() const { return gates * hidden; }
  std::int64_t state() const { return batch * hidden; }
  /// Floats of one direction that the way back needs: activated gates [T, N, gates*H], states before each step
  /// [T, N, H], and one more of these: c before each step of LSTM, R h + bias of GRU's hidden gate.
  std::int64_t kept() const { return steps * batch * (rows() + 2 * hidden); }
  std::int64_t time(std::int64_t direction, std::int64_t step) const {
    return reverse[static_cast<std::size_t>(direction)] ? steps - 1 - step : step;
  }
};

/// Inputs of the operators by position; those from `dy` on belong to gradients.
struct Positions {
  std::size_t initial_c, peepholes, dy;
};
Positions positions_of(bool lstm) { return lstm ? Positions{6, 7, 8} : Positions{99, 99, 6}; }

/// What the node asks for; the reason when this file does not do that.
std::string make_problem(KernelContext& context, Problem& p) {
  const Node& node = context.node();
  const bool lstm = node.op == "LSTM" || node.op == "LstmGrad", gru = node.op == "GRU" || node.op == "GruGrad";
  if (data_type(context.in(0).dtype) == DataType::undef || context.in(0).dtype == DType::f64)
    return fmt::format("type {}", name_of(context.in(0).dtype));
  std::vector<std::string_view> defaults = {"Tanh"};
  if (lstm) defaults = {"Sigmoid", "Tanh", "Tanh"};
  if (gru) defaults = {"Sigmoid", "Tanh"};
  const ops::RecurrentAttributes attributes(node, defaults);
  if (attributes.batch_first) return "layout 1";
  if (attributes.clip != std::numeric_limits<double>::infinity()) return "clip";
  if (attributes.input_forget) return "input_forget";
  if (gru && !attributes.linear_before_reset) return "linear_before_reset 0";
  if (context.has_input(4)) return "sequence_lens";
  if (lstm && context.has_input(7)) return "peepholes";
  p.gates = lstm ? 4 : gru ? 3 : 1;
  p.cell = lstm ? Cell::lstm : gru ? Cell::gru : Cell::rnn_tanh;
  const std::string_view first = attributes.directions[0].activations[0].name();
  if (p.cell == Cell::rnn_tanh && first == "Relu") p.cell = Cell::rnn_relu;
  for (const auto& direction : attributes.directions)
    for (std::size_t i = 0; i < defaults.size(); ++i)
      if (direction.activations[i].name() != (p.cell == Cell::rnn_relu ? "Relu" : defaults[i]))
        return fmt::format("activation {}", direction.activations[i].name());
  const ops::RecurrentExtents at(node, attributes, p.gates, context.in(0).shape, context.in(1).shape,
                                 context.in(2).shape);
  p.steps = at.steps;
  p.batch = at.batch;
  p.inputs = at.inputs;
  p.hidden = at.hidden;
  p.directions = at.directions;
  if (p.steps * p.batch * p.inputs == 0) return "an empty operand";
  for (std::size_t d = 0; d < attributes.directions.size(); ++d) p.reverse[d] = attributes.directions[d].reverse;
  return {};
}

/// c [m, n] = a b + beta c, all row-major; `ta`, `tb`: the operand lies transposed.
void multiply(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b,
              float beta, float* c) {
  dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1, a, ta ? m : k, b, tb ? k : n, beta, c, n);
}

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

/// The memory of one direction.
struct Kept {
  float *gates, *before, *extra;
  Kept(const Problem& p, float* all, std::int64_t direction)
      : gates(all + direction * p.kept()),
        before(gates + p.steps * p.batch * p.rows()),
        extra(before + p.steps * p.state()) {}
};

struct Weights {
  const float *w, *r, *b;  ///< of one direction; b may be null
  Weights(const Problem& p, const float* all_w, const float* all_r, const float* all_b, std::int64_t direction)
      : w(all_w + direction * p.rows() * p.inputs),
        r(all_r + direction * p.rows() * p.hidden),
        b(all_b ? all_b + direction * 2 * p.rows() : nullptr) {}
};

/// One step of one direction. `input`, which becomes the activated gates, and `recurrent` are [N, gates*H] sums,
/// biases included; h and c become the states after the step.
void cell_forward(const Problem& p, float* input, const float* recurrent, float* extra, float* h, float* c) {
  for (std::int64_t n = 0; n < p.batch; ++n) {
    float* x = input + n * p.rows();
    const float* y = recurrent + n * p.rows();
    for (std::int64_t k = 0; k < p.hidden; ++k) {
      const std::int64_t s = n * p.hidden + k, i = k, o = p.hidden + k, f = 2 * p.hidden + k, g = 3 * p.hidden + k;
      switch (p.cell) {
        case Cell::rnn_tanh:
          h[s] = x[i] = std::tanh(x[i] + y[i]);
          break;
        case Cell::rnn_relu:
          h[s] = x[i] = std::max(x[i] + y[i], 0.0f);
          break;
        case Cell::lstm:
          for (std::int64_t gate : {i, o, f}) x[gate] = sigmoid(x[gate] + y[gate]);
          x[g] = std::tanh(x[g] + y[g]);
          extra[s] = c[s];
          c[s] = x[f] * c[s] + x[i] * x[g];
          h[s] = x[o] * std::tanh(c[s]);
          break;
        case Cell::gru:  // i, o, f stand for ONNX's z, r, h
          x[i] = sigmoid(x[i] + y[i]);
          x[o] = sigmoid(x[o] + y[o]);
          extra[s] = y[f];
          x[f] = std::tanh(x[f] + x[o] * y[f]);
          h[s] = x[f] + x[i] * (h[s] - x[f]);
          break;
      }
    }
  }
}

/// Back through one step: from dh, dc the gradients of the two sums; dh and dc become those of the states before but
/// for what flows through R.
void cell_backward(const Problem& p, const float* gates, const float* before, const float* extra, float* dh, float* dc,
                   float* input, float* recurrent) {
  for (std::int64_t n = 0; n < p.batch; ++n) {
    const float* x = gates + n * p.rows();
    float *a = input + n * p.rows(), *b = recurrent + n * p.rows();
    for (std::int64_t k = 0; k < p.hidden; ++k) {
      const std::int64_t s = n * p.hidden + k, i = k, o = p.hidden + k, f = 2 * p.hidden + k, g = 3 * p.hidden + k;
      switch (p.cell) {
        case Cell::rnn_tanh:
          a[i] = dh[s] * (1 - x[i] * x[i]);
          dh[s] = 0;
          break;
        case Cell::rnn_relu:
          a[i] = x[i] > 0 ? dh[s] : 0;
          dh[s] = 0;
          break;
        case Cell::lstm: {
          const float t = std::tanh(x[f] * extra[s] + x[i] * x[g]);
          const float d = dc[s] + dh[s] * x[o] * (1 - t * t);
          a[i] = d * x[g] * x[i] * (1 - x[i]);
          a[o] = dh[s] * t * x[o] * (1 - x[o]);
          a[f] = d * extra[s] * x[f] * (1 - x[f]);
          a[g] = d * x[i] * (1 - x[g] * x[g]);
          dh[s] = 0;
          dc[s] = d * x[f];
          break;
        }
        case Cell::gru:
          a[f] = dh[s] * (1 - x[i]) * (1 - x[f] * x[f]);
          a[i] = b[i] = dh[s] * (before[s] - x[f]) * x[i] * (1 - x[i]);
          a[o] = b[o] = a[f] * extra[s] * x[o] * (1 - x[o]);
          b[f] = a[f] * x[o];
          dh[s] *= x[i];
          break;
      }
    }
  }
}

void add_bias(float* rows, const float* bias, std::int64_t count, std::int64_t width) {
  if (!bias) return;
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t k = 0; k < width; ++k) rows[i * width + k] += bias[k];
}

void sum_rows(const float* rows, std::int64_t count, std::int64_t width, float* sums) {
  std::fill_n(sums, width, 0.0f);
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t k = 0; k < width; ++k) sums[k] += rows[i * width + k];
}

void copy_or_zero(const float* from, std::int64_t count, float* to) {
  if (from)
    std::copy_n(from, count, to);
  else
    std::fill_n(to, count, 0.0f);
}

struct ForwardCall {
  Problem p;
  const float *x, *w, *r, *b, *h0, *c0;
  float *y, *y_h, *y_c, *kept, *recurrent, *h, *c;

  void operator()() const {
    for (std::int64_t d = 0; d < p.directions; ++d) {
      const Kept k(p, kept, d);
      const Weights weights(p, w, r, b, d);
      copy_or_zero(h0 ? h0 + d * p.state() : nullptr, p.state(), h);
      copy_or_zero(c0 ? c0 + d * p.state() : nullptr, p.state(), c);
      multiply(false, true, p.steps * p.batch, p.rows(), p.inputs, x, weights.w, 0, k.gates);
      add_bias(k.gates, weights.b, p.steps * p.batch, p.rows());
      for (std::int64_t step = 0; step < p.steps; ++step) {
        const std::int64_t t = p.time(d, step);
        std::copy_n(h, p.state(), k.before + t * p.state());
        multiply(false, true, p.batch, p.rows(), p.hidden, h, weights.r, 0, recurrent);
        add_bias(recurrent, weights.b ? weights.b + p.rows() : nullptr, p.batch, p.rows());
        cell_forward(p, k.gates + t * p.batch * p.rows(), recurrent, k.extra + t * p.state(), h, c);
        if (y) std::copy_n(h, p.state(), y + (t * p.directions + d) * p.state());
      }
      if (y_h) std::copy_n(h, p.state(), y_h + d * p.state());
      if (y_c) std::copy_n(c, p.state(), y_c + d * p.state());
    }
  }
};

struct BackwardCall {
  Problem p;
  const float *x, *w, *r, *dy, *dy_h, *dy_c;
  float *dx, *dw, *dr, *db, *dh0, *dc0, *kept, *input, *recurrent, *dh, *dc;

  void operator()() const {
    const std::int64_t rows = p.steps * p.batch, size = p.batch * p.rows();
    for (std::int64_t d = 0; d < p.directions; ++d) {
      const Kept k(p, kept, d);
      const Weights weights(p, w, r, nullptr, d);
      copy_or_zero(dy_h ? dy_h + d * p.state() : nullptr, p.state(), dh);
      copy_or_zero(dy_c ? dy_c + d * p.state() : nullptr, p.state(), dc);
      for (std::int64_t step = p.steps; step-- > 0;) {
        const std::int64_t t = p.time(d, step);
        if (dy) {
          const float* from = dy + (t * p.directions + d) * p.state();
          for (std::int64_t i = 0; i < p.state(); ++i) dh[i] += from[i];
        }
        cell_backward(p, k.gates + t * size, k.before + t * p.state(), k.extra + t * p.state(), dh, dc,
                      input + t * size, recurrent + t * size);
        multiply(false, false, p.batch, p.hidden, p.rows(), recurrent + t * size, weights.r, 1, dh);
      }
      if (dx) multiply(false, false, rows, p.inputs, p.rows(), input, weights.w, d == 0 ? 0.0f : 1.0f, dx);
      if (dw) multiply(true, false, p.rows(), p.inputs, rows, input, x, 0, dw + d * p.rows() * p.inputs);
      if (dr) multiply(true, false, p.rows(), p.hidden, rows, recurrent, k.before, 0, dr + d * p.rows() * p.hidden);
      if (db) {
        sum_rows(input, rows, p.rows(), db + d * 2 * p.rows());
        sum_rows(recurrent, rows, p.rows(), db + d * 2 * p.rows() + p.rows());
      }
      if (dh0) std::copy_n(dh, p.state(), dh0 + d * p.state());
      if (dc0) std::copy_n(dc, p.state(), dc0 + d * p.state());
    }
  }
};

std::size_t floats(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(float); }

std::string remark(KernelContext& context) { return conversion_remark(context.in(0).dtype, DType::f32); }

}  // namespace

Made make_recurrent(KernelContext& context) {
  Problem p;
  if (std::string reason = make_problem(context, p); !reason.empty()) return refuse(reason);
  const Positions at = positions_of(p.cell == Cell::lstm);
  auto read = [&](std::size_t i) { return context.read(i, Layout(), DType::f32); };
  const Operand x = read(0), w = read(1), r = read(2), b = read(3), h0 = read(5), c0 = read(at.initial_c);
  auto write = [&](std::size_t i) { return context.write(i, Layout(), DType::f32); };
  const Operand y = write(0), y_h = write(1), y_c = write(2);
  // Kept for the gradient node, whose kernel says until when.
  const BufferId kept = context.keep(floats(p.directions * p.kept()));
  if (context.has_gradient()) {
    context.own_record().workspace = kept;
    context.own_record().computed = DType::f32;
  }
  const BufferId recurrent = context.scratch(floats(p.batch * p.rows()));
  const BufferId h = context.scratch(floats(p.state())), c = context.scratch(floats(p.state()));
  return {"native", remark(context), [=](const Memory& memory) -> Run {
            auto in = [&](const Operand& operand) { return memory.as<const float>(operand); };
            auto out = [&](const Operand& operand) { return memory.as<float>(operand); };
            return ForwardCall{p,
                               in(x),
                               in(w),
                               in(r),
                               in(b),
                               in(h0),
                               in(c0),
                               out(y),
                               out(y_h),
                               out(y_c),
                               memory.as<float>(kept),
                               memory.as<float>(recurrent),
                               memory.as<float>(h),
                               memory.as<float>(c)};
          }};
}

Made make_recurrent_grad(KernelContext& context) {
  Problem p;
  if (std::string reason = make_problem(context, p); !reason.empty()) return refuse(reason);
  const bool lstm = p.cell == Cell::lstm;
  const Positions at = positions_of(lstm);
  const ForwardRecord* record = context.forward_record();
  const bool shared = record && record->workspace != kNoBuffer;

  auto read = [&](std::size_t i) { return context.read(i, Layout(), DType::f32); };
  const Operand x = read(0), w = read(1), r = read(2), b = read(3), h0 = read(5), c0 = read(at.initial_c);
  const Operand dy = read(at.dy), dy_h = read(at.dy + 1), dy_c = lstm ? read(at.dy + 2) : Operand();
  auto write = [&](std::size_t i) { return context.write(i, Layout(), DType::f32); };
  const Operand dx = write(0), dw = write(1), dr = write(2), db = write(3), dh0 = write(4), dc0 = write(5);
  const std::int64_t sums = p.steps * p.batch * p.rows();
  const BufferId kept = shared ? record->workspace : context.scratch(floats(p.directions * p.kept()));
  if (shared) context.touch(kept);
  const BufferId input = context.scratch(floats(sums));
  // RNN and LSTM add the two sums of a step: the gradients of both are one.
  const BufferId recurrent = p.cell == Cell::gru ? context.scratch(floats(sums)) : input;
  const BufferId dh = context.scratch(floats(p.state())), dc = context.scratch(floats(p.state()));
  return {"native", remark(context), [=](const Memory& memory) -> Run {
            auto in = [&](const Operand& operand) { return memory.as<const float>(operand); };
            auto out = [&](const Operand& operand) { return memory.as<float>(operand); };
            auto own = [&](BufferId id) { return memory.as<float>(id); };
            const BackwardCall backward{p,        in(x),     in(w),      in(r),          in(dy),  in(dy_h),
                                        in(dy_c), out(dx),   out(dw),    out(dr),        out(db), out(dh0),
                                        out(dc0), own(kept), own(input), own(recurrent), own(dh), own(dc)};
            if (shared) return backward;
            const ForwardCall forward{p,       in(x),   in(w),   in(r),     in(b),          in(h0),  in(c0),
                                      nullptr, nullptr, nullptr, own(kept), own(recurrent), own(dh), own(dc)};
            return [=] {
              forward();
              backward();
            };
          }};
}

}  // namespace halfstep::onednn
