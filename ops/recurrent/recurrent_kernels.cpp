#include "ops/recurrent/recurrent_kernels.h"

#include <algorithm>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

/// Input i, or empty; throws Error if it has another shape.
Row optional_input(const KernelCall& call, std::size_t i, const char* name, const Shape& shape) {
  if (!call.has_in(i)) return {};
  if (call.in[i].shape() != shape)
    throw_input_error(fmt::format("{} of shape {}", name, shape.to_string()),
                      fmt::format("{} in {} '{}'", call.in[i].shape().to_string(), call.node.op, call.node.name),
                      "check the shapes fed to this operator");
  return to_doubles(call.in[i]);
}

/// The part for direction `d` of `count`, empty if the whole is.
template <class T>
std::span<T> part(std::span<T> whole, std::size_t d, std::size_t count) {
  return whole.empty() ? whole : whole.subspan(d * (whole.size() / count), whole.size() / count);
}

/// The common operands of a node and its gradient, and the node's options.
template <class Cell>
struct Operands {
  RecurrentAttributes attributes;
  RecurrentExtents at;
  Row x, w, r, b, h0, c0, p;
  std::vector<std::int64_t> lengths;

  explicit Operands(const KernelCall& call)
      : attributes(call.node, Cell::kActivations),
        at(call.node, attributes, Cell::kGates, call.in[0].shape(), call.in[1].shape(), call.in[2].shape()),
        x(to_doubles(call.in[0])),
        w(to_doubles(call.in[1])),
        r(to_doubles(call.in[2])),
        b(optional_input(call, 3, "B", {at.directions, 2 * static_cast<std::int64_t>(Cell::kGates) * at.hidden})),
        h0(optional_input(call, 5, "initial_h", at.state_shape())),
        lengths(static_cast<std::size_t>(at.batch), at.steps) {
    if constexpr (Cell::kStates == 2) {
      c0 = optional_input(call, 6, "initial_c", at.state_shape());
      p = optional_input(call, 7, "P", {at.directions, 3 * at.hidden});
    }
    if (!call.has_in(4)) return;
    lengths = to_int64s(call.in[4]);
    if (static_cast<std::int64_t>(lengths.size()) != at.batch ||
        std::ranges::any_of(lengths, [&](std::int64_t n) { return n < 0 || n > at.steps; }))
      throw_input_error(fmt::format("sequence_lens with {} lengths from 0 to {}", at.batch, at.steps),
                        fmt::format("{} lengths in {} '{}'", lengths.size(), call.node.op, call.node.name),
                        "check the data fed to this operator");
  }

  CellWeights weights(std::size_t d) const {
    const auto n = static_cast<std::size_t>(at.directions);
    const std::span<const double> bias = part(std::span(b), d, n);
    return {.inputs = static_cast<std::size_t>(at.inputs),
            .hidden = static_cast<std::size_t>(at.hidden),
            .w = part(std::span(w), d, n),
            .r = part(std::span(r), d, n),
            .w_bias = bias.first(bias.size() / 2),
            .r_bias = bias.last(bias.size() / 2),
            .peepholes = part(std::span(p), d, n),
            .activations = attributes.directions[d].activations,
            .clip = attributes.clip,
            .input_forget = attributes.input_forget,
            .linear_before_reset = attributes.linear_before_reset};
  }

  /// Index in X and Y of the t-th step of sequence n.
  std::int64_t time(std::size_t d, std::int64_t n, std::int64_t t) const {
    return attributes.directions[d].reverse ? lengths[n] - 1 - t : t;
  }

  /// A state of sequence n; zeros if none is given.
  Row initial(const Row& states, std::size_t d, std::int64_t n) const {
    const auto hidden = static_cast<std::size_t>(at.hidden);
    if (states.empty()) return Row(hidden);
    const auto first = states.begin() + static_cast<std::ptrdiff_t>(at.state(static_cast<std::int64_t>(d), n));
    return Row(first, first + at.hidden);
  }

  /// All steps of sequence n in direction d.
  std::vector<CellStep> run(std::size_t d, std::int64_t n) const {
    const CellWeights weights = this->weights(d);
    std::vector<CellStep> steps(static_cast<std::size_t>(lengths[n]));
    Row h = initial(h0, d, n), c = Cell::kStates == 2 ? initial(c0, d, n) : Row();
    for (std::size_t t = 0; t < steps.size(); ++t) {
      CellStep& step = steps[t];
      step.x = std::span(x).subspan(at.x(time(d, n, static_cast<std::int64_t>(t)), n), weights.inputs);
      step.h0 = std::move(h);
      step.c0 = std::move(c);
      run_step<Cell>(weights, step);
      h = step.h;
      c = step.c;
    }
    return steps;
  }

  /// Calls f(direction, sequence) for every sequence in every direction.
  template <class F>
  void for_each_sequence(F&& f) const {
    for (std::size_t d = 0; d < attributes.directions.size(); ++d)
      for (std::int64_t n = 0; n < at.batch; ++n) f(d, n);
  }
};

void put(const Row& row, std::size_t offset, Row& to) {
  std::ranges::copy(row, to.begin() + static_cast<std::ptrdiff_t>(offset));
}

void add_at(const Row& from, std::size_t offset, Row& row) {
  if (from.empty()) return;
  for (std::size_t k = 0; k < row.size(); ++k) row[k] += from[offset + k];
}

}  // namespace

template <class Cell>
void recurrent(KernelCall& call) {
  const Operands<Cell> operands(call);
  const RecurrentExtents& at = operands.at;
  const Shape y_shape = at.y_shape(), state_shape = at.state_shape();
  // Elements after the end of a sequence stay 0.
  Row y(static_cast<std::size_t>(y_shape.count())), y_h(static_cast<std::size_t>(state_shape.count())), y_c(y_h.size());
  operands.for_each_sequence([&](std::size_t d, std::int64_t n) {
    const auto direction = static_cast<std::int64_t>(d);
    const std::vector<CellStep> steps = operands.run(d, n);
    for (std::size_t t = 0; t < steps.size(); ++t)
      put(steps[t].h, at.y(operands.time(d, n, static_cast<std::int64_t>(t)), direction, n), y);
    put(steps.empty() ? operands.initial(operands.h0, d, n) : steps.back().h, at.state(direction, n), y_h);
    if (Cell::kStates == 2)
      put(steps.empty() ? operands.initial(operands.c0, d, n) : steps.back().c, at.state(direction, n), y_c);
  });
  const DType dtype = call.in[0].dtype();
  if (call.has_out(0)) store(ensure_out(call, 0, dtype, y_shape), y);
  if (call.has_out(1)) store(ensure_out(call, 1, dtype, state_shape), y_h);
  if (call.has_out(2)) store(ensure_out(call, 2, dtype, state_shape), y_c);
}

template <class Cell>
void recurrent_grad(KernelCall& call) {
  const Operands<Cell> operands(call);
  const RecurrentExtents& at = operands.at;
  constexpr std::size_t first = kRecurrentInputs<Cell>;
  const Row dy = optional_input(call, first, "dY", at.y_shape());
  const Row dy_h = optional_input(call, first + 1, "dY_h", at.state_shape());
  const Row dy_c = Cell::kStates == 2 ? optional_input(call, first + 2, "dY_c", at.state_shape()) : Row();

  Row dx(operands.x.size()), dw(operands.w.size()), dr(operands.r.size()), db(operands.b.size());
  Row dh0(static_cast<std::size_t>(at.state_shape().count())), dc0(dh0.size()), dp(operands.p.size());
  const auto hidden = static_cast<std::size_t>(at.hidden), inputs = static_cast<std::size_t>(at.inputs);
  const auto directions = static_cast<std::size_t>(at.directions);
  operands.for_each_sequence([&](std::size_t d, std::int64_t n) {
    const auto direction = static_cast<std::int64_t>(d);
    const CellWeights weights = operands.weights(d);
    const std::span<double> bias = part(std::span(db), d, directions);
    CellWeightGradients gradients{.w = part(std::span(dw), d, directions),
                                  .r = part(std::span(dr), d, directions),
                                  .w_bias = bias.first(bias.size() / 2),
                                  .r_bias = bias.last(bias.size() / 2),
                                  .peepholes = part(std::span(dp), d, directions)};
    const std::vector<CellStep> steps = operands.run(d, n);
    Row dh(hidden), dc(Cell::kStates == 2 ? hidden : 0);
    add_at(dy_h, at.state(direction, n), dh);
    add_at(dy_c, at.state(direction, n), dc);
    for (std::size_t t = steps.size(); t-- > 0;) {
      const std::int64_t time = operands.time(d, n, static_cast<std::int64_t>(t));
      add_at(dy, at.y(time, direction, n), dh);
      run_step_back<Cell>(weights, steps[t], dh, dc, gradients, std::span(dx).subspan(at.x(time, n), inputs));
    }
    put(dh, at.state(direction, n), dh0);
    put(dc, at.state(direction, n), dc0);
  });

  const Row* results[] = {&dx, &dw, &dr, &db, &dh0, &dc0, &dp};
  for (std::size_t i = 0; i < kRecurrentDifferentiated<Cell>.size(); ++i) {
    const std::size_t source = kRecurrentDifferentiated<Cell>[i];
    if (!call.has_out(i) || !call.has_in(source)) continue;
    store(ensure_out(call, i, call.in[source].dtype(), call.in[source].shape()), *results[i]);
  }
}

template void recurrent<RnnCell>(KernelCall&);
template void recurrent<LstmCell>(KernelCall&);
template void recurrent<GruCell>(KernelCall&);
template void recurrent_grad<RnnCell>(KernelCall&);
template void recurrent_grad<LstmCell>(KernelCall&);
template void recurrent_grad<GruCell>(KernelCall&);

}  // namespace halfstep::ops
