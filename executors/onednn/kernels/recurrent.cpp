// RNN, LSTM and GRU as exporters write them, and their gradients: one product for the inputs of all steps in all
// directions, and as few for the gradients of the weights; between them each thread takes its sequences through the
// steps.
#include "executors/onednn/simd/recurrent.h"

#include <algorithm>
#include <memory>

#include <omp.h>

#include "executors/core/same_elements.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/measured.h"
#include "executors/onednn/kernels/product.h"
#include "executors/onednn/kernels/recurrent_problem.h"
#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/parallel.h"
#include "executors/onednn/simd/reduce.h"

namespace halfstep::onednn {

using namespace recurrent;

namespace {

/// A stack of matrices somewhere in a buffer.
struct Matrix : Matrices {
  BufferId buffer = kNoBuffer;
  DType dtype = DType::f32;
  std::size_t offset = 0;  ///< bytes

  Argument argument(int index) const { return {index, desc(dtype), buffer, offset}; }
  void* in(const Memory& memory) const {
    return simd::at(static_cast<void*>(memory.at(buffer)), static_cast<std::int64_t>(offset), 1);
  }
};
Matrix row_major_matrix(const Operand& operand, std::int64_t rows, std::int64_t columns) {
  return {row_major_matrices({rows, columns}), operand.buffer, operand.dtype};
}
Matrix transposed(Matrix m) {
  m.transpose();
  return m;
}

/// c = a b.
Bind product(KernelContext& context, const Matrix& a, const Matrix& b, const Matrix& c) {
  const bool is_preferred = prefers_simd_product(a, b, a.dtype);
  dnnl::matmul::primitive_desc pd;
  if (!is_preferred || tuner())
    pd = dnnl::matmul::primitive_desc(engine(), a.desc(a.dtype), b.desc(b.dtype), c.desc(c.dtype), user_scratchpad());
  const simd::GemmProblem problem = gemm_problem(a, b, c, a.dtype, c.dtype);
  const auto measured = [&] {
    return tuner()->takes_second(product_key(a, b, c, a.dtype, c.dtype), primitive_candidate(pd, pd),
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
Matrix gates_matrix(const Problem& p, BufferId buffer, DType dtype) {
  return {row_major_matrices({p.pairs(), p.width()}), buffer, dtype};
}

/// R of every direction, packed panel by panel by `pack(r, packed, panel)`.
template <class Pack>
void pack_all(const Problem& p, const simd::RecurrentKernel& kernel, const void* r, void* packed, const Pack& pack) {
  const std::int64_t panels = kernel.panels();
  const auto bytes = static_cast<std::int64_t>(p.product_bytes(p.directions * kernel.packed_count()));
  simd::parallel_for(p.directions * panels, bytes, [&](std::int64_t i) {
    const std::int64_t d = i / panels;
    pack(simd::at(r, d * p.rows() * p.hidden, kernel.element_bytes()),
         simd::at(packed, d * kernel.packed_count(), kernel.element_bytes()), i % panels);
  });
}

void copy_or_zero(const float* from, std::int64_t count, float* to) {
  if (from)
    std::copy_n(from, count, to);
  else
    std::fill_n(to, count, 0.0f);
}

template <class T>
T* at(T* array, std::int64_t offset) {
  return array ? array + offset : nullptr;
}

struct ForwardRun {
  Problem p;
  simd::RecurrentKernel kernel;
  Run input_product;
  const void* r;
  const float *b, *h0, *c0;
  float *y, *h_end, *c_end, *kept;
  void* packed;
  simd::UnaryKernel round;

  void operator()() const {
    input_product();
    pack_all(p, kernel, r, packed,
             [&](const void* from, void* to, std::int64_t panel) { kernel.pack(from, to, panel); });
    p.for_shares([&](std::int64_t d, std::int64_t first, std::int64_t count) { run_share(d, first, count); });
  }

 private:
  void run_share(std::int64_t d, std::int64_t first, std::int64_t count) const {
    float *h = kept + p.kept_h(), *extra = p.extra(kept);
    bf16* rounded = p.rounded(kept);
    const std::int64_t begin = p.kept_at(d, p.time(d, 0), first), end = p.state_at(d, first);
    copy_or_zero(at(h0, end), count * p.hidden, h + begin);
    if (rounded) round(h + begin, rounded + begin, count * p.hidden);
    if (p.cell == Cell::lstm) copy_or_zero(at(c0, end), count * p.hidden, extra + begin);
    for (std::int64_t step = 0; step < p.steps; ++step) {
      const std::int64_t t = p.time(d, step), now = p.kept_at(d, t, first);
      const bool last = step + 1 == p.steps;
      const std::int64_t next = last ? end : p.kept_at(d, p.time(d, step + 1), first);
      simd::RecurrentForward call;
      call.weights = simd::at(packed, d * kernel.packed_count(), kernel.element_bytes());
      call.bias = at(b, d * 2 * p.rows());
      call.gates = kept + p.gates_at(d, t, first);
      call.h = h + now;
      call.h_after = (last ? h_end : h) + next;
      call.y = at(y, p.y_at(d, t, first));
      call.h_rounded = at(rounded, now);
      if (!last) call.rounded_after = at(rounded, next);
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
  const void* r;
  const float *dy, *dy_h, *dy_c, *kept;
  void *input, *recurrent;
  float *dh, *dc;
  void* packed;

  void operator()() const {
    pack_all(p, kernel, r, packed,
             [&](const void* from, void* to, std::int64_t panel) { kernel.pack_backward(from, to, panel); });
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
      call.weights = simd::at(packed, d * kernel.packed_count(), kernel.element_bytes());
      call.gates = kept + gates;
      call.h = h + now;
      call.c = call.linear = at(extra, now);  // of each cell the one it has
      call.dy = at(dy, p.y_at(d, t, first));
      call.dh = dh + end;
      call.dc = at(dc, end);
      call.input = simd::at(input, gates, kernel.element_bytes());
      call.recurrent = simd::at(recurrent, gates, kernel.element_bytes());
      kernel(call, count);
    }
  }
};

/// dB [D, 2, G*H]: the gradients of W x and of R h, summed over steps and sequences.
struct BiasRun {
  Problem p;
  simd::ReduceKernel sum;
  const void *input, *recurrent;
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

std::string remark(KernelContext& context, const Problem& p) {
  return conversion_remark(context.in(0).dtype, p.products);
}

/// The operands that a node and its gradient share.
struct Operands {
  Operand x, w, r, b, h0, c0;
};
Operands read_operands(KernelContext& context, const Problem& p, const Positions& at) {
  auto read = [&](std::size_t i, DType dtype = DType::f32) { return context.read(i, Layout(), dtype); };
  return {read(0, p.products), read(1, p.products), read(2, p.products), read(3), read(5), read(at.initial_c)};
}

/// `y` may be empty; the last states lie in `h_end` and `c_end`.
Bind forward_bind(KernelContext& context, const Problem& p, const Operands& in, const Operand& y, BufferId h_end,
                  BufferId c_end, BufferId kept) {
  Bind input = product(context, row_major_matrix(in.x, p.pairs(), p.inputs),
                       transposed(row_major_matrix(in.w, p.width(), p.inputs)), gates_matrix(p, kept, DType::f32));
  const simd::RecurrentKernel kernel = simd::find_recurrent(p.shape(), p.products);
  const BufferId packed = context.scratch(p.product_bytes(p.directions * kernel.packed_count()));
  const simd::UnaryKernel round = simd::find_cast(DType::f32, p.products);
  return [=, input = std::move(input)](const Memory& memory) -> Run {
    auto read = [&](const Operand& operand) { return memory.as<const float>(operand); };
    auto own = [&](BufferId id) { return memory.as<float>(id); };
    return ForwardRun{p,          kernel,      input(memory), memory.at(in.r),
                      read(in.b), read(in.h0), read(in.c0),   memory.as<float>(y),
                      own(h_end), own(c_end),  own(kept),     memory.at(packed),
                      round};
  };
}

}  // namespace

Made make_recurrent(KernelContext& context) {
  Problem p;
  if (std::string reason = make_problem(context, p); !reason.empty()) return refuse(reason);
  const Operands in = read_operands(context, p, positions_of(p.cell == Cell::lstm));
  auto write = [&](std::size_t i) { return context.write(i, Layout(), DType::f32); };
  auto buffer = [&](const Operand& out) { return out ? out.buffer : context.scratch(floats(p.states())); };
  const Operand y = write(0);
  const BufferId h_end = buffer(write(1)), c_end = p.cell == Cell::lstm ? buffer(write(2)) : kNoBuffer;
  // Kept for the gradient node, whose kernel says until when.
  const BufferId kept = context.keep(p.kept_bytes());
  if (context.has_gradient()) {
    context.own_record().workspace = kept;
    context.own_record().computed = p.products;
  }
  return {"simd", remark(context, p), forward_bind(context, p, in, y, h_end, c_end, kept)};
}

Made make_recurrent_grad(KernelContext& context) {
  Problem p;
  if (std::string reason = make_problem(context, p); !reason.empty()) return refuse(reason);
  const bool lstm = p.cell == Cell::lstm;
  const Positions at = positions_of(lstm);
  const ForwardRecord* record = core::record_of_same_inputs(context);
  const bool shared = record && record->workspace != kNoBuffer && record->computed == p.products;

  const Operands in = read_operands(context, p, at);
  auto read = [&](std::size_t i) { return context.read(i, Layout(), DType::f32); };
  const Operand dy = read(at.dy), dy_h = read(at.dy + 1), dy_c = lstm ? read(at.dy + 2) : Operand();
  auto write = [&](std::size_t i, DType dtype = DType::f32) { return context.write(i, Layout(), dtype); };
  auto buffer = [&](const Operand& out) { return out ? out.buffer : context.scratch(floats(p.states())); };
  const Operand dx = write(0, p.products), dw = write(1, p.products), dr = write(2, p.products), db = write(3);
  const BufferId dh = buffer(write(4)), dc = lstm ? buffer(write(5)) : kNoBuffer;
  const BufferId kept = shared ? record->workspace : context.scratch(p.kept_bytes());
  if (shared) context.touch(kept);
  const BufferId input = context.scratch(p.product_bytes(p.kept_h()));
  // RNN and LSTM add the two sums of a step: the gradients of both are one.
  const BufferId recurrent = p.cell == Cell::gru ? context.scratch(p.product_bytes(p.kept_h())) : input;
  const simd::RecurrentKernel kernel = simd::find_recurrent(p.shape(), p.products);
  const BufferId packed = context.scratch(p.product_bytes(p.directions * kernel.packed_count()));

  Bind all;
  auto then = [&](Bind next) { all = all ? in_sequence(std::move(all), std::move(next)) : std::move(next); };
  if (!shared) then(forward_bind(context, p, in, {}, dh, dc, kept));
  then([=](const Memory& memory) -> Run {
    auto load = [&](const Operand& operand) { return memory.as<const float>(operand); };
    auto own = [&](BufferId id) { return memory.as<float>(id); };
    return BackwardRun{p,         kernel,           memory.at(in.r),      load(dy), load(dy_h), load(dy_c),
                       own(kept), memory.at(input), memory.at(recurrent), own(dh),  own(dc),    memory.at(packed)};
  });
  const Matrix sums = gates_matrix(p, input, p.products);
  const Matrix w = row_major_matrix(in.w, p.width(), p.inputs), x = row_major_matrix(in.x, p.pairs(), p.inputs);
  if (dx) then(product(context, sums, w, row_major_matrix(dx, p.pairs(), p.inputs)));
  if (dw) then(product(context, transposed(sums), x, row_major_matrix(dw, p.width(), p.inputs)));
  if (dr) {
    const std::int64_t d = p.directions, rows = p.rows(), h = p.hidden;
    const Matrix by_direction = {{{d, rows, p.pairs()}, {rows, 1, p.width()}}, recurrent, p.products};
    const Matrix before = {row_major_matrices({d, p.pairs(), h}), kept, p.products,
                           floats(p.rounds() ? p.kept_floats() : p.kept_h())};
    then(product(context, by_direction, before, {row_major_matrices({d, rows, h}), dr.buffer, p.products}));
  }
  if (db) {
    const simd::ReduceKernel sum =
        simd::find_reduce(simd::ReduceOp::sum, p.products, DType::f32, {.reduced1 = p.pairs(), .kept1 = p.width()});
    const BufferId total = context.scratch(floats(p.width())), scratch = context.scratch(sum.scratch_bytes());
    then([=](const Memory& memory) -> Run {
      return BiasRun{p,
                     sum,
                     memory.at(input),
                     memory.at(recurrent),
                     memory.as<float>(db),
                     memory.as<float>(total),
                     memory.at(scratch)};
    });
  }
  return {"simd", remark(context, p), std::move(all)};
}

}  // namespace halfstep::onednn
