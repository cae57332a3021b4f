// RNN, LSTM and GRU as exporters write them, and their gradients: one product for the inputs of all steps in all
// directions, and as few for the gradients of the weights; between them each thread takes its sequences through the
// steps.
#include "ops/recurrent/recurrent.h"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>

#include <fmt/format.h>
#include <omp.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/measured.h"
#include "executors/onednn/kernels/product.h"
#include "executors/onednn/simd/parallel.h"
#include "executors/onednn/simd/recurrent.h"
#include "executors/onednn/simd/reduce.h"

namespace halfstep::onednn {
namespace {

using Cell = simd::RecurrentCell;

std::size_t floats(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(float); }

struct Problem {
  Cell cell = Cell::rnn_tanh;
  std::int64_t steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1;
  std::array<bool, 2> reverse{};
  std::int64_t share = 0;  ///< sequences that go through the steps together, in one direction

  std::int64_t rows() const { return simd::gates_of(cell) * hidden; }  ///< of one direction's W and R
  std::int64_t width() const { return directions * rows(); }
  std::int64_t pairs() const { return steps * batch; }
  std::int64_t states() const { return directions * batch * hidden; }  ///< elements, of one time
  simd::RecurrentShape shape() const { return {cell, hidden, width()}; }

  // What the way back needs, in one piece of memory: activated gates [T, N, D, G*H]; h before each step, and c before
  // each step of LSTM or R h + bias of GRU's hidden gate (RNN has no such extra), [D, T, N, H] both.
  std::int64_t kept_h() const { return pairs() * width(); }
  std::int64_t kept_extra() const { return kept_h() + steps * states(); }
  std::int64_t kept() const { return kept_extra() + (has_extra() ? steps * states() : 0); }
  bool has_extra() const { return cell == Cell::lstm || cell == Cell::gru; }
  /// Null when there is none.
  template <class Float>
  Float* extra(Float* kept) const {
    return has_extra() ? kept + kept_extra() : nullptr;
  }

  std::int64_t time(std::int64_t direction, std::int64_t step) const {
    return reverse[direction] ? steps - 1 - step : step;
  }
  std::int64_t gates_at(std::int64_t direction, std::int64_t time, std::int64_t n) const {
    return (time * batch + n) * width() + direction * rows();
  }
  std::int64_t state_at(std::int64_t direction, std::int64_t n) const { return (direction * batch + n) * hidden; }
  std::int64_t kept_at(std::int64_t direction, std::int64_t time, std::int64_t n) const {
    return ((direction * steps + time) * batch + n) * hidden;
  }
  std::int64_t y_at(std::int64_t direction, std::int64_t time, std::int64_t n) const {
    return time * states() + state_at(direction, n);
  }

  /// body(direction, first, count): sequences that a thread takes through all steps without waiting for others.
  template <class Body>
  void for_shares(const Body& body) const {
    const std::int64_t shares = simd::blocks_of(batch, share);
    // Roughly the time of the arithmetic, in bytes that memory would move in it.
    const std::int64_t work = pairs() * width() * (hidden / 2 + 16);
    simd::parallel_for(directions * shares, work, [&](std::int64_t i) {
      const std::int64_t first = i % shares * share;
      body(i / shares, first, std::min(share, batch - first));
    });
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
  if (data_type(context.in(0).dtype) == DataType::undef) return fmt::format("type {}", name_of(context.in(0).dtype));
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
  p.cell = lstm ? Cell::lstm : gru ? Cell::gru : Cell::rnn_tanh;
  const std::string_view first = attributes.directions[0].activations[0].name();
  if (p.cell == Cell::rnn_tanh && first == "Relu") p.cell = Cell::rnn_relu;
  for (const auto& direction : attributes.directions)
    for (std::size_t i = 0; i < defaults.size(); ++i)
      if (direction.activations[i].name() != (p.cell == Cell::rnn_relu ? "Relu" : defaults[i]))
        return fmt::format("activation {}", direction.activations[i].name());
  const ops::RecurrentExtents at(node, attributes, simd::gates_of(p.cell), context.in(0).shape, context.in(1).shape,
                                 context.in(2).shape);
  p.steps = at.steps;
  p.batch = at.batch;
  p.inputs = at.inputs;
  p.hidden = at.hidden;
  p.directions = at.directions;
  if (p.steps * p.batch * p.inputs == 0) return "an empty operand";
  const Shape state{p.directions, p.batch, p.hidden};
  const Positions of = positions_of(lstm);
  const bool fit = context.fits(3, {p.directions, 2 * p.rows()}) && context.fits(5, state) &&
                   context.fits(of.initial_c, state) &&
                   context.fits(of.dy, {p.steps, p.directions, p.batch, p.hidden}) && context.fits(of.dy + 1, state) &&
                   context.fits(of.dy + 2, state);
  if (!fit) return "operands that do not fit";
  for (std::size_t d = 0; d < attributes.directions.size(); ++d) p.reverse[d] = attributes.directions[d].reverse;
  const std::int64_t together = simd::find_recurrent(p.shape()).rows_together();
  const std::int64_t threads = simd::blocks_of(omp_get_max_threads(), p.directions);
  p.share = simd::blocks_of(simd::blocks_of(p.batch, threads), together) * together;
  return {};
}

/// A stack of matrices somewhere in a buffer of floats.
struct Matrix : Matrices {
  BufferId buffer = kNoBuffer;
  std::int64_t offset = 0;

  Argument argument(int index) const { return {index, desc(DType::f32), buffer, floats(offset)}; }
  float* in(const Memory& memory) const { return memory.as<float>(buffer) + offset; }
};
Matrix row_major_matrix(const Operand& operand, std::int64_t rows, std::int64_t columns) {
  return {row_major_matrices({rows, columns}), operand.buffer};
}
Matrix transposed(Matrix m) {
  m.transpose();
  return m;
}

/// c = a b.
Bind product(KernelContext& context, const Matrix& a, const Matrix& b, const Matrix& c) {
  const bool is_preferred = prefers_simd_product(a, b, DType::f32);
  dnnl::matmul::primitive_desc pd;
  if (!is_preferred || tuner())
    pd = dnnl::matmul::primitive_desc(engine(), a.desc(DType::f32), b.desc(DType::f32), c.desc(DType::f32),
                                      user_scratchpad());
  const simd::GemmProblem problem = gemm_problem(a, b, c, DType::f32, DType::f32);
  const auto measured = [&] {
    return tuner()->takes_second(product_key(a, b, c, DType::f32, DType::f32), primitive_candidate(pd, pd),
                                 simd_candidate(problem, omp_get_max_threads()), is_preferred);
  };
  if (tuner() ? measured() : is_preferred) {
    auto gemm = std::make_shared<const simd::Gemm>(problem, omp_get_max_threads());
    const BufferId scratch = context.scratch(gemm->scratch_bytes());
    return [=](const Memory& memory) -> Run {
      return [=, left = a.in(memory), right = b.in(memory), to = c.in(memory), space = memory.at(scratch)] {
        (*gemm)(left, right, nullptr, to, space);
      };
    };
  }
  const BufferId scratch = context.scratch(pd.scratchpad_desc().get_size());
  return bind_primitive(dnnl::matmul(pd), {a.argument(DNNL_ARG_SRC),
                                           b.argument(DNNL_ARG_WEIGHTS),
                                           c.argument(DNNL_ARG_DST),
                                           {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), scratch}});
}

/// Gates, or their gradients, of all steps as one matrix.
Matrix gates_matrix(const Problem& p, BufferId buffer) { return {row_major_matrices({p.pairs(), p.width()}), buffer}; }

void copy_or_zero(const float* from, std::int64_t count, float* to) {
  if (from)
    std::copy_n(from, count, to);
  else
    std::fill_n(to, count, 0.0f);
}

const float* at(const float* array, std::int64_t offset) { return array ? array + offset : nullptr; }
float* at(float* array, std::int64_t offset) { return array ? array + offset : nullptr; }

struct ForwardRun {
  Problem p;
  simd::RecurrentKernel kernel;
  Run input_product;
  const float *r, *b, *h0, *c0;
  float *y, *h_end, *c_end, *kept, *packed;

  void operator()() const {
    input_product();
    const std::int64_t panels = kernel.panels(), packed_bytes = p.directions * kernel.packed_floats() * 4;
    simd::parallel_for(p.directions * panels, packed_bytes, [&](std::int64_t i) {
      const std::int64_t d = i / panels;
      kernel.pack(r + d * p.rows() * p.hidden, packed + d * kernel.packed_floats(), i % panels);
    });
    p.for_shares([&](std::int64_t d, std::int64_t first, std::int64_t count) { run_share(d, first, count); });
  }

 private:
  void run_share(std::int64_t d, std::int64_t first, std::int64_t count) const {
    float *h = kept + p.kept_h(), *extra = p.extra(kept);
    const std::int64_t begin = p.kept_at(d, p.time(d, 0), first), end = p.state_at(d, first);
    copy_or_zero(at(h0, end), count * p.hidden, h + begin);
    if (p.cell == Cell::lstm) copy_or_zero(at(c0, end), count * p.hidden, extra + begin);
    for (std::int64_t step = 0; step < p.steps; ++step) {
      const std::int64_t t = p.time(d, step), now = p.kept_at(d, t, first);
      const bool last = step + 1 == p.steps;
      const std::int64_t next = last ? end : p.kept_at(d, p.time(d, step + 1), first);
      simd::RecurrentForward call;
      call.weights = packed + d * kernel.packed_floats();
      call.bias = at(b, d * 2 * p.rows());
      call.gates = kept + p.gates_at(d, t, first);
      call.h = h + now;
      call.h_after = (last ? h_end : h) + next;
      call.y = at(y, p.y_at(d, t, first));
      if (p.cell == Cell::lstm) {
        call.c = extra + now;
        call.c_after = (last ? c_end : extra) + next;
      } else {
        call.linear = at(extra, now);
      }
      kernel(call, count);
    }
  }
};

struct BackwardRun {
  Problem p;
  simd::RecurrentKernel kernel;
  const float *r, *dy, *dy_h, *dy_c, *kept;
  float *input, *recurrent, *dh, *dc;

  void operator()() const {
    p.for_shares([&](std::int64_t d, std::int64_t first, std::int64_t count) { run_share(d, first, count); });
  }

 private:
  void run_share(std::int64_t d, std::int64_t first, std::int64_t count) const {
    const float *h = kept + p.kept_h(), *extra = p.extra(kept);
    const std::int64_t end = p.state_at(d, first);
    copy_or_zero(at(dy_h, end), count * p.hidden, dh + end);
    if (p.cell == Cell::lstm) copy_or_zero(at(dy_c, end), count * p.hidden, dc + end);
    for (std::int64_t step = p.steps; step-- > 0;) {
      const std::int64_t t = p.time(d, step), now = p.kept_at(d, t, first), gates = p.gates_at(d, t, first);
      simd::RecurrentBackward call;
      call.weights = r + d * p.rows() * p.hidden;
      call.gates = kept + gates;
      call.h = h + now;
      call.c = call.linear = at(extra, now);  // of each cell the one it has
      call.dy = at(dy, p.y_at(d, t, first));
      call.dh = dh + end;
      call.dc = at(dc, end);
      call.input = input + gates;
      call.recurrent = recurrent + gates;
      kernel(call, count);
    }
  }
};

/// dB [D, 2, G*H]: the gradients of W x and of R h, summed over steps and sequences.
struct BiasRun {
  Problem p;
  simd::ReduceKernel sum;
  const float *input, *recurrent;
  float *db, *sums;
  void* scratch;

  void operator()() const {
    for (std::int64_t half : {0, 1}) {
      if (half == 0 || recurrent != input) sum(half == 0 ? input : recurrent, sums, scratch);
      for (std::int64_t d = 0; d < p.directions; ++d)
        std::copy_n(sums + d * p.rows(), p.rows(), db + (2 * d + half) * p.rows());
    }
  }
};

std::string remark(KernelContext& context) { return conversion_remark(context.in(0).dtype, DType::f32); }

/// The operands that a node and its gradient share.
struct Operands {
  Operand x, w, r, b, h0, c0;
};
Operands read_operands(KernelContext& context, const Positions& at) {
  auto read = [&](std::size_t i) { return context.read(i, Layout(), DType::f32); };
  return {read(0), read(1), read(2), read(3), read(5), read(at.initial_c)};
}

/// `y` may be empty; the last states lie in `h_end` and `c_end`.
Bind forward_bind(KernelContext& context, const Problem& p, const Operands& in, const Operand& y, BufferId h_end,
                  BufferId c_end, BufferId kept) {
  Bind input = product(context, row_major_matrix(in.x, p.pairs(), p.inputs),
                       transposed(row_major_matrix(in.w, p.width(), p.inputs)), gates_matrix(p, kept));
  const simd::RecurrentKernel kernel = simd::find_recurrent(p.shape());
  const BufferId packed = context.scratch(floats(p.directions * kernel.packed_floats()));
  return [=, input = std::move(input)](const Memory& memory) -> Run {
    auto read = [&](const Operand& operand) { return memory.as<const float>(operand); };
    auto own = [&](BufferId id) { return memory.as<float>(id); };
    return ForwardRun{p,          kernel,      input(memory), read(in.r),
                      read(in.b), read(in.h0), read(in.c0),   memory.as<float>(y),
                      own(h_end), own(c_end),  own(kept),     own(packed)};
  };
}

}  // namespace

Made make_recurrent(KernelContext& context) {
  Problem p;
  if (std::string reason = make_problem(context, p); !reason.empty()) return refuse(reason);
  const Operands in = read_operands(context, positions_of(p.cell == Cell::lstm));
  auto write = [&](std::size_t i) { return context.write(i, Layout(), DType::f32); };
  auto buffer = [&](const Operand& out) { return out ? out.buffer : context.scratch(floats(p.states())); };
  const Operand y = write(0);
  const BufferId h_end = buffer(write(1)), c_end = p.cell == Cell::lstm ? buffer(write(2)) : kNoBuffer;
  // Kept for the gradient node, whose kernel says until when.
  const BufferId kept = context.keep(floats(p.kept()));
  if (context.has_gradient()) {
    context.own_record().workspace = kept;
    context.own_record().computed = DType::f32;
  }
  return {"simd", remark(context), forward_bind(context, p, in, y, h_end, c_end, kept)};
}

Made make_recurrent_grad(KernelContext& context) {
  Problem p;
  if (std::string reason = make_problem(context, p); !reason.empty()) return refuse(reason);
  const bool lstm = p.cell == Cell::lstm;
  const Positions at = positions_of(lstm);
  const ForwardRecord* record = context.forward_record();
  const bool shared = record && record->workspace != kNoBuffer;

  const Operands in = read_operands(context, at);
  auto read = [&](std::size_t i) { return context.read(i, Layout(), DType::f32); };
  const Operand dy = read(at.dy), dy_h = read(at.dy + 1), dy_c = lstm ? read(at.dy + 2) : Operand();
  auto write = [&](std::size_t i) { return context.write(i, Layout(), DType::f32); };
  auto buffer = [&](const Operand& out) { return out ? out.buffer : context.scratch(floats(p.states())); };
  const Operand dx = write(0), dw = write(1), dr = write(2), db = write(3);
  const BufferId dh = buffer(write(4)), dc = lstm ? buffer(write(5)) : kNoBuffer;
  const BufferId kept = shared ? record->workspace : context.scratch(floats(p.kept()));
  if (shared) context.touch(kept);
  const BufferId input = context.scratch(floats(p.kept_h()));
  // RNN and LSTM add the two sums of a step: the gradients of both are one.
  const BufferId recurrent = p.cell == Cell::gru ? context.scratch(floats(p.kept_h())) : input;

  Bind all;
  auto then = [&](Bind next) { all = all ? in_sequence(std::move(all), std::move(next)) : std::move(next); };
  if (!shared) then(forward_bind(context, p, in, {}, dh, dc, kept));
  then([=, kernel = simd::find_recurrent(p.shape())](const Memory& memory) -> Run {
    auto load = [&](const Operand& operand) { return memory.as<const float>(operand); };
    auto own = [&](BufferId id) { return memory.as<float>(id); };
    return BackwardRun{p,         kernel,     load(in.r),     load(dy), load(dy_h), load(dy_c),
                       own(kept), own(input), own(recurrent), own(dh),  own(dc)};
  });
  const Matrix sums = gates_matrix(p, input);
  const Matrix w = row_major_matrix(in.w, p.width(), p.inputs), x = row_major_matrix(in.x, p.pairs(), p.inputs);
  if (dx) then(product(context, sums, w, row_major_matrix(dx, p.pairs(), p.inputs)));
  if (dw) then(product(context, transposed(sums), x, row_major_matrix(dw, p.width(), p.inputs)));
  if (dr) {
    const std::int64_t d = p.directions, rows = p.rows(), h = p.hidden;
    const Matrix by_direction = {{{d, rows, p.pairs()}, {rows, 1, p.width()}}, recurrent};
    const Matrix before = {row_major_matrices({d, p.pairs(), h}), kept, p.kept_h()};
    then(product(context, by_direction, before, {row_major_matrices({d, rows, h}), dr.buffer}));
  }
  if (db) {
    const simd::ReduceKernel sum =
        simd::find_reduce(simd::ReduceOp::sum, DType::f32, DType::f32, {.reduced1 = p.pairs(), .kept1 = p.width()});
    const BufferId total = context.scratch(floats(p.width())), scratch = context.scratch(sum.scratch_bytes());
    then([=](const Memory& memory) -> Run {
      return BiasRun{p,
                     sum,
                     memory.as<const float>(input),
                     memory.as<const float>(recurrent),
                     memory.as<float>(db),
                     memory.as<float>(total),
                     memory.at(scratch)};
    });
  }
  return {"simd", remark(context), std::move(all)};
}

}  // namespace halfstep::onednn
