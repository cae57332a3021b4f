#include "tests/executors/cudnn/emulation/rnn_layer.h"

#include <algorithm>
#include <bit>

#include "tests/executors/cudnn/emulation/emulation.h"

namespace emulation {

using halfstep::DType;

double in_tf32(double x) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(static_cast<float>(x)) + 0x1000) & ~0x1fffU);
}

namespace {

double in_type(DType type, double x) {
  float place = 0;
  emulation::store(type, &place, 0, x);
  return emulation::load(type, &place, 0);
}
std::uint64_t hash_of(const void* p, std::size_t bytes) {
  std::uint64_t hash = 1469598103934665603U;
  if (p)
    for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const std::uint8_t*>(p)[i]) * 1099511628211U;
  return hash;
}

}  // namespace

void run_forward(const RnnLayer& a, void* h, void* c) {
  for (std::int64_t d = 0; d < a.rnn.weights.directions; ++d)
    for (std::int64_t s = 0; s < a.steps(); ++s)
      a.for_each_unit([&](std::int64_t n, std::int64_t k) {
        RnnUnit u{.from_input = Numbers(static_cast<std::size_t>(a.gates())),
                  .from_state = Numbers(static_cast<std::size_t>(a.gates()))};
        for (std::int64_t g = 0; g < a.gates(); ++g) {
          double in = a.bias(d, g, k), state = a.bias(d, a.gates() + g, k);
          for (std::int64_t i = 0; i < a.rnn.weights.inputs; ++i)
            in += a.matrix(d, g, k, i) * a.factor(a.x, a.x_at.row(a.time(d, s), n) + i);
          for (std::int64_t j = 0; j < a.hidden(); ++j)
            state += a.matrix(d, a.gates() + g, k, j) * a.factor(a.before(s), a.before_place(d, s, n, j));
          u.from_input[static_cast<std::size_t>(g)] = in;
          u.from_state[static_cast<std::size_t>(g)] = state;
        }
        u.h0 = a.number(a.before(s), a.before_place(d, s, n, k));
        u.c0 = s == 0 ? a.number(a.c0, a.state_place(d, n, k)) : a.unit(d, s - 1, n, k)[a.gates()];
        run(a.rnn.mode, u);
        store(a.rnn.type, a.y, a.y_place(d, s, n, k), u.h);
        double* const kept = a.unit(d, s, n, k);
        std::copy(u.gates.begin(), u.gates.end(), kept);
        kept[a.gates()] = a.rnn.mode == CUDNN_GRU ? u.from_state[2] : u.c;
        if (s + 1 < a.steps()) return;
        if (h) store(a.rnn.type, h, a.state_place(d, n, k), u.h);
        if (c) store(a.rnn.type, c, a.state_place(d, n, k), u.c);
      });
  a.mark() = {RnnMark::forward,
              hash_of(a.x, a.x_at.bytes()),
              hash_of(a.y, a.y_at.bytes()),
              hash_of(a.h0, a.state_bytes()),
              hash_of(a.c0, a.state_bytes()),
              hash_of(a.weights, a.rnn.weight_bytes())};
}

void run_data(const RnnLayer& a, const RnnDataGradients& to) {
  const RnnMark& mark = a.mark();
  if (mark.stage != RnnMark::forward || mark.y != hash_of(a.y, a.y_at.bytes()) ||
      mark.h0 != hash_of(a.h0, a.state_bytes()) || mark.c0 != hash_of(a.c0, a.state_bytes()) ||
      mark.weights != hash_of(a.weights, a.rnn.weight_bytes())) {
    refuse("the reserve is not that of a forward pass with these operands");
    return;
  }
  Numbers dx(static_cast<std::size_t>(a.steps() * a.batch() * a.rnn.weights.inputs));
  for (std::int64_t d = 0; d < a.rnn.weights.directions; ++d) {
    const auto units = static_cast<std::size_t>(a.batch() * a.hidden());
    Numbers dh(units), dc(units);
    const auto at = [&](std::int64_t n, std::int64_t k) { return static_cast<std::size_t>(n * a.hidden() + k); };
    a.for_each_unit([&](std::int64_t n, std::int64_t k) {
      dh[at(n, k)] = a.number(to.dh_last, a.state_place(d, n, k));
      dc[at(n, k)] = a.number(to.dc_last, a.state_place(d, n, k));
    });
    for (std::int64_t s = a.steps() - 1; s >= 0; --s) {
      a.for_each_unit([&](std::int64_t n, std::int64_t k) {
        dh[at(n, k)] += a.number(to.dy, a.y_place(d, s, n, k));
        const RnnUnitGradient sums = run_back(a.rnn.mode, a.unit_of(d, s, n, k), dh[at(n, k)], dc[at(n, k)]);
        double* const kept = a.unit(d, s, n, k) + a.gates() + 1;
        for (std::int64_t g = 0; g < a.gates(); ++g) {  // operands of products, in the tensors' type
          kept[g] = in_type(a.rnn.type, sums.from_input[static_cast<std::size_t>(g)]);
          kept[a.gates() + g] = in_type(a.rnn.type, sums.from_state[static_cast<std::size_t>(g)]);
        }
      });
      a.for_each_unit([&](std::int64_t n, std::int64_t k) {
        const double* const kept = a.unit(d, s, n, k) + a.gates() + 1;
        for (std::int64_t g = 0; g < a.gates(); ++g) {
          for (std::int64_t j = 0; j < a.hidden(); ++j)
            dh[at(n, j)] += a.matrix(d, a.gates() + g, k, j) * kept[a.gates() + g];
          for (std::int64_t i = 0; i < a.rnn.weights.inputs; ++i)
            dx[static_cast<std::size_t>(a.x_at.row(a.time(d, s), n) + i)] += a.matrix(d, g, k, i) * kept[g];
        }
      });
    }
    a.for_each_unit([&](std::int64_t n, std::int64_t k) {
      if (to.dh) store(a.rnn.type, to.dh, a.state_place(d, n, k), dh[at(n, k)]);
      if (to.dc) store(a.rnn.type, to.dc, a.state_place(d, n, k), dc[at(n, k)]);
    });
  }
  for (std::size_t i = 0; i < dx.size(); ++i) store(a.rnn.type, to.dx, static_cast<std::int64_t>(i), dx[i]);
  a.mark().stage = RnnMark::data;
}

void run_weights(const RnnLayer& a, void* to) {
  const RnnMark& mark = a.mark();
  if (mark.stage != RnnMark::data || mark.x != hash_of(a.x, a.x_at.bytes()) || mark.y != hash_of(a.y, a.y_at.bytes()) ||
      mark.h0 != hash_of(a.h0, a.state_bytes())) {
    refuse("the reserve is not that of a gradient of these data");
    return;
  }
  Numbers sums(static_cast<std::size_t>(a.rnn.weights.count()));
  const auto add = [&](std::int64_t place, double x) { sums[static_cast<std::size_t>(place)] += x; };
  for (std::int64_t d = 0; d < a.rnn.weights.directions; ++d)
    for (std::int64_t linear = 0; linear < 2 * a.gates(); ++linear) {
      const bool is_recurrent = linear >= a.gates();
      const std::int64_t columns = is_recurrent ? a.hidden() : a.rnn.weights.inputs;
      for (std::int64_t s = 0; s < a.steps(); ++s)
        a.for_each_unit([&](std::int64_t n, std::int64_t k) {
          const double gradient = a.unit(d, s, n, k)[a.gates() + 1 + linear];
          for (std::int64_t i = 0; i < columns; ++i)
            add(a.rnn.weights.matrix(d, linear) + k * columns + i,
                gradient * (is_recurrent ? a.factor(a.before(s), a.before_place(d, s, n, i))
                                         : a.factor(a.x, a.x_at.row(a.time(d, s), n) + i)));
          if (a.rnn.weights.has_bias) add(a.rnn.weights.bias(d, linear) + k, gradient);
        });
    }
  for (std::int64_t i = 0; i < a.rnn.weights.count(); ++i)
    store(a.rnn.type, to, i, a.number(to, i) + sums[static_cast<std::size_t>(i)]);
}

}  // namespace emulation
