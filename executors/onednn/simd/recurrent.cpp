// Recurrent cells. The product with R keeps its sums in registers until the cell has taken them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/recurrent.cpp"
#include "executors/onednn/simd/recurrent.h"

#include <numeric>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

// Rows whose sums are kept together: as many as the registers hold for four gates.
constexpr std::int64_t kForwardRows = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
constexpr std::int64_t kBackwardRows = 4;

HWY_INLINE V one_minus(V x) { return hn::Sub(constant(1), x); }
/// dy times the derivatives of sigmoid and tanh, which are known by their values.
HWY_INLINE V through_sigmoid(V dy, V y) { return hn::Mul(dy, hn::Mul(y, one_minus(y))); }
HWY_INLINE V through_tanh(V dy, V y) { return hn::Mul(dy, hn::NegMulAdd(y, y, constant(1))); }

/// `count` elements of one row of a step from column i on, of states and of gates.
template <class Step, class Count>
struct Place {
  const Step& step;
  const RecurrentShape& shape;
  std::int64_t row, i;
  Count count;

  V state(const float* p) const { return read(p + row * shape.hidden + i, count); }
  void set_state(V v, float* p) const { write(v, p + row * shape.hidden + i, count); }
  V gate(const float* p, std::int64_t g) const { return read(p + row * shape.stride + g * shape.hidden + i, count); }
  void set_gate(V v, float* p, std::int64_t g) const { write(v, p + row * shape.stride + g * shape.hidden + i, count); }
};

struct RnnTanh {
  static HWY_INLINE V activate(V x) { return tanh(x); }
  static HWY_INLINE V through(V dy, V y) { return through_tanh(dy, y); }
};
struct RnnRelu {
  static HWY_INLINE V activate(V x) { return relu(x); }
  static HWY_INLINE V through(V dy, V y) { return hn::IfThenZeroElse(hn::Le(y, constant(0)), dy); }
};
// Cells. forward(at, x, r): x is W x with its bias, r is R h with its own, gate by gate; gives h.
// backward(at, dh): dh includes dy.
template <class Function>
struct Rnn {
  static constexpr std::int64_t kGates = gates_of(RecurrentCell::rnn_tanh);
  template <class At>
  static HWY_INLINE V forward(const At& at, const V* x, const V* r) {
    const V h = Function::activate(hn::Add(x[0], r[0]));
    at.set_gate(h, at.step.gates, 0);
    return h;
  }
  template <class At>
  static HWY_INLINE void backward(const At& at, V dh) {
    at.set_gate(Function::through(dh, at.gate(at.step.gates, 0)), at.step.input, 0);
    at.set_state(constant(0), at.step.dh);
  }
};

struct Lstm {
  static constexpr std::int64_t kGates = gates_of(RecurrentCell::lstm);  // i, o, f, c
  template <class At>
  static HWY_INLINE V forward(const At& at, const V* x, const V* r) {
    const V i = sigmoid(hn::Add(x[0], r[0])), o = sigmoid(hn::Add(x[1], r[1])), f = sigmoid(hn::Add(x[2], r[2]));
    const V g = tanh(hn::Add(x[3], r[3]));
    const V c = hn::MulAdd(f, at.state(at.step.c), hn::Mul(i, g));
    at.set_gate(i, at.step.gates, 0);
    at.set_gate(o, at.step.gates, 1);
    at.set_gate(f, at.step.gates, 2);
    at.set_gate(g, at.step.gates, 3);
    at.set_state(c, at.step.c_after);
    return hn::Mul(o, tanh(c));
  }
  template <class At>
  static HWY_INLINE void backward(const At& at, V dh) {
    const V i = at.gate(at.step.gates, 0), o = at.gate(at.step.gates, 1), f = at.gate(at.step.gates, 2);
    const V g = at.gate(at.step.gates, 3), c = at.state(at.step.c);
    const V t = tanh(hn::MulAdd(f, c, hn::Mul(i, g)));
    const V dc = hn::Add(at.state(at.step.dc), through_tanh(hn::Mul(dh, o), t));
    at.set_gate(through_sigmoid(hn::Mul(dc, g), i), at.step.input, 0);
    at.set_gate(through_sigmoid(hn::Mul(dh, t), o), at.step.input, 1);
    at.set_gate(through_sigmoid(hn::Mul(dc, c), f), at.step.input, 2);
    at.set_gate(through_tanh(hn::Mul(dc, i), g), at.step.input, 3);
    at.set_state(constant(0), at.step.dh);
    at.set_state(hn::Mul(dc, f), at.step.dc);
  }
};

struct Gru {
  static constexpr std::int64_t kGates = gates_of(RecurrentCell::gru);  // z, r, h
  template <class At>
  static HWY_INLINE V forward(const At& at, const V* x, const V* r) {
    const V update = sigmoid(hn::Add(x[0], r[0])), reset = sigmoid(hn::Add(x[1], r[1]));
    const V hidden = tanh(hn::MulAdd(reset, r[2], x[2]));
    at.set_gate(update, at.step.gates, 0);
    at.set_gate(reset, at.step.gates, 1);
    at.set_gate(hidden, at.step.gates, 2);
    at.set_state(r[2], at.step.linear);
    return hn::MulAdd(update, hn::Sub(at.state(at.step.h), hidden), hidden);
  }
  template <class At>
  static HWY_INLINE void backward(const At& at, V dh) {
    const V update = at.gate(at.step.gates, 0), reset = at.gate(at.step.gates, 1), hidden = at.gate(at.step.gates, 2);
    const V d_hidden = through_tanh(hn::Mul(dh, one_minus(update)), hidden);
    const V d_update = through_sigmoid(hn::Mul(dh, hn::Sub(at.state(at.step.h), hidden)), update);
    const V d_reset = through_sigmoid(hn::Mul(d_hidden, at.state(at.step.linear)), reset);
    for (float* sums : {at.step.input, at.step.recurrent}) {
      at.set_gate(d_update, sums, 0);
      at.set_gate(d_reset, sums, 1);
    }
    at.set_gate(d_hidden, at.step.input, 2);
    at.set_gate(hn::Mul(d_hidden, reset), at.step.recurrent, 2);
    at.set_state(hn::Mul(dh, update), at.step.dh);
  }
};

/// A panel: for every k the columns i to i + lanes of each gate's R^T, zeros where there are none.
void pack(const RecurrentShape& shape, const float* r, float* packed, std::int64_t panel) {
  const std::int64_t width = lanes(), i = panel * width, gates = shape.gates();
  float* to = packed + i * gates * shape.hidden;
  for (std::int64_t g = 0; g < gates; ++g) {
    for (std::int64_t lane = 0; lane < width; ++lane) {
      const float* from = i + lane < shape.hidden ? r + (g * shape.hidden + i + lane) * shape.hidden : nullptr;
      for (std::int64_t k = 0; k < shape.hidden; ++k) to[(k * gates + g) * width + lane] = from ? from[k] : 0;
    }
  }
}

template <class Cell, std::int64_t kRows, class Count>
HWY_INLINE void forward_tile(const RecurrentShape& shape, const RecurrentForward& step, const float* panel,
                             std::int64_t row, std::int64_t i, Count count) {
  constexpr std::int64_t kGates = Cell::kGates;
  const std::int64_t width = lanes();
  const auto bias = [&](std::int64_t gate) {  // those of R behind those of W
    return step.bias ? read(step.bias + gate * shape.hidden + i, count) : constant(0);
  };
  V sum[kRows][kGates];
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t g = 0; g < kGates; ++g) sum[r][g] = bias(kGates + g);
  const float* h = step.h + row * shape.hidden;
  for (std::int64_t k = 0; k < shape.hidden; ++k, panel += kGates * width) {
    V weights[kGates];
    for (std::int64_t g = 0; g < kGates; ++g) weights[g] = load(panel + g * width);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const V factor = constant(h[r * shape.hidden + k]);
      for (std::int64_t g = 0; g < kGates; ++g) sum[r][g] = hn::MulAdd(factor, weights[g], sum[r][g]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    const Place<RecurrentForward, Count> at{step, shape, row + r, i, count};
    V x[kGates];
    for (std::int64_t g = 0; g < kGates; ++g) x[g] = hn::Add(at.gate(step.gates, g), bias(g));
    const V after = Cell::forward(at, x, sum[r]);
    at.set_state(after, step.h_after);
    if (step.y) at.set_state(after, step.y);
  }
}

template <class Cell>
void forward(const RecurrentShape& shape, const RecurrentForward& step, std::int64_t rows) {
  for_vectors(shape.hidden, [&](std::int64_t i, auto count) {
    const float* panel = step.weights + i * Cell::kGates * shape.hidden;
    std::int64_t row = 0;
    for (; row + kForwardRows <= rows; row += kForwardRows)
      forward_tile<Cell, kForwardRows>(shape, step, panel, row, i, count);
    for (; row < rows; ++row) forward_tile<Cell, 1>(shape, step, panel, row, i, count);
  });
}

/// kVectors vectors of dh from column i on += sums [rows, n] times R [n, H].
template <std::int64_t kRows, std::int64_t kVectors, class Count>
HWY_INLINE void backward_tile(const RecurrentShape& shape, const float* sums, const float* weights, float* dh,
                              std::int64_t n, Count count) {
  const std::int64_t width = lanes();
  V total[kRows][kVectors];
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t v = 0; v < kVectors; ++v) total[r][v] = read(dh + r * shape.hidden + v * width, count);
  for (std::int64_t k = 0; k < n; ++k) {
    V row[kVectors];
    for (std::int64_t v = 0; v < kVectors; ++v) row[v] = read(weights + k * shape.hidden + v * width, count);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const V factor = constant(sums[r * shape.stride + k]);
      for (std::int64_t v = 0; v < kVectors; ++v) total[r][v] = hn::MulAdd(factor, row[v], total[r][v]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t v = 0; v < kVectors; ++v) write(total[r][v], dh + r * shape.hidden + v * width, count);
}

template <std::int64_t kRows>
void backward_rows(const RecurrentShape& shape, const float* sums, const float* weights, float* dh, std::int64_t n) {
  const std::int64_t pair = 2 * lanes();
  std::int64_t i = 0;
  for (; i + pair <= shape.hidden; i += pair)
    backward_tile<kRows, 2>(shape, sums, weights + i, dh + i, n, std::true_type());
  for_vectors(shape.hidden - i, [&](std::int64_t rest, auto count) {
    backward_tile<kRows, 1>(shape, sums, weights + i + rest, dh + i + rest, n, count);
  });
}

template <class Cell>
void backward(const RecurrentShape& shape, const RecurrentBackward& step, std::int64_t rows) {
  for (std::int64_t row = 0; row < rows; ++row) {
    for_vectors(shape.hidden, [&](std::int64_t i, auto count) {
      const Place<RecurrentBackward, decltype(count)> at{step, shape, row, i, count};
      V dh = at.state(step.dh);
      if (step.dy) dh = hn::Add(dh, at.state(step.dy));
      Cell::backward(at, dh);
    });
  }
  const std::int64_t n = Cell::kGates * shape.hidden;
  const float* sums = shape.cell == RecurrentCell::gru ? step.recurrent : step.input;
  std::int64_t row = 0;
  for (; row + kBackwardRows <= rows; row += kBackwardRows)
    backward_rows<kBackwardRows>(shape, sums + row * shape.stride, step.weights, step.dh + row * shape.hidden, n);
  for (; row < rows; ++row)
    backward_rows<1>(shape, sums + row * shape.stride, step.weights, step.dh + row * shape.hidden, n);
}

template <class Cell>
RecurrentKernel::Functions functions_of() {
  return {&pack, &forward<Cell>, &backward<Cell>, lanes(), std::lcm(kForwardRows, kBackwardRows)};
}

RecurrentKernel::Functions find(RecurrentCell cell) {
  switch (cell) {
    case RecurrentCell::rnn_tanh:
      return functions_of<Rnn<RnnTanh>>();
    case RecurrentCell::rnn_relu:
      return functions_of<Rnn<RnnRelu>>();
    case RecurrentCell::lstm:
      return functions_of<Lstm>();
    case RecurrentCell::gru:
      return functions_of<Gru>();
  }
  return {};
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);

RecurrentKernel find_recurrent(const RecurrentShape& shape) {
  return RecurrentKernel(HWY_DYNAMIC_DISPATCH(find)(shape.cell), shape);
}

}  // namespace halfstep::simd
#endif
