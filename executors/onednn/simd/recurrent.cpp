// Recurrent cells. The product with R keeps its sums in registers until the cell has taken them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/recurrent.cpp"
#include "executors/onednn/simd/recurrent.h"

#include <numeric>

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/bf16_tile.h"
#include "executors/onednn/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

// Rows whose sums are kept together: as many as the registers hold for four gates.
constexpr std::int64_t kForwardRows = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
constexpr std::int64_t kBackwardRows = 4;

/// sigmoid(x), or 0 where that is less than the normal numbers.
HWY_INLINE V gate(V x) {
  const V e = decaying_exp(hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, constant(0)), e, constant(1)), hn::Add(constant(1), e));
}
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
  template <class T>
  void set_gate(V v, T* p, std::int64_t g) const {
    write(v, p + row * shape.stride + g * shape.hidden + i, count);
  }
  /// Gradients of gates, in the products' type T.
  template <class T>
  void set_gradient(V v, void* p, std::int64_t g) const {
    set_gate(v, static_cast<T*>(p), g);
  }
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
// backward<T>(at, dh): dh includes dy, and products are of type T.
template <class Function>
struct Rnn {
  static constexpr std::int64_t kGates = gates_of(RecurrentCell::rnn_tanh);
  template <class At>
  static HWY_INLINE V forward(const At& at, const V* x, const V* r) {
    const V h = Function::activate(hn::Add(x[0], r[0]));
    at.set_gate(h, at.step.gates, 0);
    return h;
  }
  template <class T, class At>
  static HWY_INLINE void backward(const At& at, V dh) {
    at.template set_gradient<T>(Function::through(dh, at.gate(at.step.gates, 0)), at.step.input, 0);
    at.set_state(constant(0), at.step.dh);
  }
};

struct Lstm {
  static constexpr std::int64_t kGates = gates_of(RecurrentCell::lstm);  // i, o, f, c
  template <class At>
  static HWY_INLINE V forward(const At& at, const V* x, const V* r) {
    const V i = gate(hn::Add(x[0], r[0])), o = gate(hn::Add(x[1], r[1])), f = gate(hn::Add(x[2], r[2]));
    const V g = tanh(hn::Add(x[3], r[3]));
    const V c = hn::MulAdd(f, at.state(at.step.c), hn::Mul(i, g));
    at.set_gate(i, at.step.gates, 0);
    at.set_gate(o, at.step.gates, 1);
    at.set_gate(f, at.step.gates, 2);
    at.set_gate(g, at.step.gates, 3);
    at.set_state(c, at.step.c_after);
    return hn::Mul(o, tanh(c));
  }
  template <class T, class At>
  static HWY_INLINE void backward(const At& at, V dh) {
    const V i = at.gate(at.step.gates, 0), o = at.gate(at.step.gates, 1), f = at.gate(at.step.gates, 2);
    const V g = at.gate(at.step.gates, 3), c = at.state(at.step.c);
    const V t = tanh(hn::MulAdd(f, c, hn::Mul(i, g)));
    const V dc = hn::Add(at.state(at.step.dc), through_tanh(hn::Mul(dh, o), t));
    at.template set_gradient<T>(through_sigmoid(hn::Mul(dc, g), i), at.step.input, 0);
    at.template set_gradient<T>(through_sigmoid(hn::Mul(dh, t), o), at.step.input, 1);
    at.template set_gradient<T>(through_sigmoid(hn::Mul(dc, c), f), at.step.input, 2);
    at.template set_gradient<T>(through_tanh(hn::Mul(dc, i), g), at.step.input, 3);
    at.set_state(constant(0), at.step.dh);
    at.set_state(hn::Mul(dc, f), at.step.dc);
  }
};

struct Gru {
  static constexpr std::int64_t kGates = gates_of(RecurrentCell::gru);  // z, r, h
  template <class At>
  static HWY_INLINE V forward(const At& at, const V* x, const V* r) {
    const V update = gate(hn::Add(x[0], r[0])), reset = gate(hn::Add(x[1], r[1]));
    const V hidden = tanh(hn::MulAdd(reset, r[2], x[2]));
    at.set_gate(update, at.step.gates, 0);
    at.set_gate(reset, at.step.gates, 1);
    at.set_gate(hidden, at.step.gates, 2);
    at.set_state(r[2], at.step.linear);
    return hn::MulAdd(update, hn::Sub(at.state(at.step.h), hidden), hidden);
  }
  template <class T, class At>
  static HWY_INLINE void backward(const At& at, V dh) {
    const V update = at.gate(at.step.gates, 0), reset = at.gate(at.step.gates, 1), hidden = at.gate(at.step.gates, 2);
    const V d_hidden = through_tanh(hn::Mul(dh, one_minus(update)), hidden);
    const V d_update = through_sigmoid(hn::Mul(dh, hn::Sub(at.state(at.step.h), hidden)), update);
    const V d_reset = through_sigmoid(hn::Mul(d_hidden, at.state(at.step.linear)), reset);
    for (void* sums : {at.step.input, at.step.recurrent}) {
      at.template set_gradient<T>(d_update, sums, 0);
      at.template set_gradient<T>(d_reset, sums, 1);
    }
    at.template set_gradient<T>(d_hidden, at.step.input, 2);
    at.template set_gradient<T>(hn::Mul(d_hidden, reset), at.step.recurrent, 2);
    at.set_state(hn::Mul(dh, update), at.step.dh);
  }
};

/// Elements of R beside each other that a product takes at once: bf16 comes in pairs.
template <class T>
inline constexpr std::int64_t kTogether = sizeof(float) / sizeof(T);

/// A panel: for every k, or pair of k, the columns i to i + lanes of each gate's R^T, zeros where there are none.
template <class T>
void pack(const RecurrentShape& shape, const void* r, void* packed, std::int64_t panel) {
  const std::int64_t width = lanes(), i = panel * width, gates = shape.gates(), words = shape.hidden / kTogether<T>;
  const std::uint32_t* rows = static_cast<const std::uint32_t*>(r);
  std::uint32_t* to = static_cast<std::uint32_t*>(packed) + i * gates * words;
  for (std::int64_t g = 0; g < gates; ++g) {
    for (std::int64_t lane = 0; lane < width; ++lane) {
      const std::uint32_t* from = i + lane < shape.hidden ? rows + (g * shape.hidden + i + lane) * words : nullptr;
      for (std::int64_t k = 0; k < words; ++k) to[(k * gates + g) * width + lane] = from ? from[k] : 0;
    }
  }
}

/// What the cell will read and write for kRows rows: too little of each row in one place for the CPU to read ahead.
template <class Cell, std::int64_t kRows>
HWY_INLINE void fetch_ahead(const RecurrentShape& shape, const RecurrentForward& step, std::int64_t row,
                            std::int64_t i) {
  for (std::int64_t r = row; r < row + kRows; ++r) {
    for (std::int64_t g = 0; g < Cell::kGates; ++g) hwy::Prefetch(step.gates + r * shape.stride + g * shape.hidden + i);
    if (step.c) hwy::Prefetch(step.c + r * shape.hidden + i);
  }
}

/// What the cells make of the sums of R h with their bias, sum(row, gate) for kRows rows.
template <class Cell, std::int64_t kRows, class Count, class Sum>
HWY_INLINE void apply_cell(const RecurrentShape& shape, const RecurrentForward& step, std::int64_t row, std::int64_t i,
                           Count count, const Sum& sum) {
  constexpr std::int64_t kGates = Cell::kGates;
  for (std::int64_t r = 0; r < kRows; ++r) {
    const Place<RecurrentForward, Count> at{step, shape, row + r, i, count};
    V x[kGates], recurrent[kGates];
    for (std::int64_t g = 0; g < kGates; ++g) {
      const V bias = step.bias ? read(step.bias + g * shape.hidden + i, count) : constant(0);
      x[g] = hn::Add(at.gate(step.gates, g), bias);
      recurrent[g] = sum(r, g);
    }
    const V after = Cell::forward(at, x, recurrent);
    at.set_state(after, step.h_after);
    if (step.y) at.set_state(after, step.y);
    if (step.rounded_after) write(after, step.rounded_after + (row + r) * shape.hidden + i, count);
  }
}

/// Of the biases of R, which lie behind those of W.
template <class Cell, class Count>
HWY_INLINE V recurrent_bias(const RecurrentShape& shape, const RecurrentForward& step, std::int64_t gate,
                            std::int64_t i, Count count) {
  return step.bias ? read(step.bias + (Cell::kGates + gate) * shape.hidden + i, count) : constant(0);
}

template <class Cell, std::int64_t kRows, class Count>
HWY_INLINE void forward_tile(const RecurrentShape& shape, const RecurrentForward& step, const float* panel,
                             std::int64_t row, std::int64_t i, Count count) {
  constexpr std::int64_t kGates = Cell::kGates;
  const std::int64_t width = lanes();
  fetch_ahead<Cell, kRows>(shape, step, row, i);
  V sum[kRows][kGates];
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t g = 0; g < kGates; ++g) sum[r][g] = recurrent_bias<Cell>(shape, step, g, i, count);
  const float* h = step.h + row * shape.hidden;
  for (std::int64_t k = 0; k < shape.hidden; ++k, panel += kGates * width) {
    V weights[kGates];
    for (std::int64_t g = 0; g < kGates; ++g) weights[g] = load(panel + g * width);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const V factor = constant(h[r * shape.hidden + k]);
      for (std::int64_t g = 0; g < kGates; ++g) sum[r][g] = hn::MulAdd(factor, weights[g], sum[r][g]);
    }
  }
  apply_cell<Cell, kRows>(shape, step, row, i, count, [&](std::int64_t r, std::int64_t g) { return sum[r][g]; });
}

template <class Cell, std::int64_t kRows, class Count>
HWY_INLINE void forward_tile(const RecurrentShape& shape, const RecurrentForward& step, const bf16* panel,
                             std::int64_t row, std::int64_t i, Count count) {
  constexpr std::int64_t kGates = Cell::kGates;
  HWY_ALIGN float sums[kRows * kGates * kBf16Lanes];
  fetch_ahead<Cell, kRows>(shape, step, row, i);
  constexpr std::int64_t kColumns = kGates * kBf16Lanes, kPair = kTogether<bf16>;
  find_bf16_tile(kRows, kGates)({.a = step.h_rounded + row * shape.hidden,
                                 .a_row = shape.hidden,
                                 .a_pair = kPair,
                                 .b = panel,
                                 .pairs = shape.hidden / kPair,
                                 .y = sums,
                                 .y_row = kColumns,
                                 .columns = kColumns});
  apply_cell<Cell, kRows>(shape, step, row, i, count, [&](std::int64_t r, std::int64_t g) {
    return hn::Add(load(sums + (r * kGates + g) * kBf16Lanes), recurrent_bias<Cell>(shape, step, g, i, count));
  });
}

template <class Cell, class T>
void forward(const RecurrentShape& shape, const RecurrentForward& step, std::int64_t rows) {
  for_vectors(shape.hidden, [&](std::int64_t i, auto count) {
    const T* panel = static_cast<const T*>(step.weights) + i * Cell::kGates * shape.hidden;
    std::int64_t row = 0;
    for (; row + kForwardRows <= rows; row += kForwardRows)
      forward_tile<Cell, kForwardRows>(shape, step, panel, row, i, count);
    for (; row < rows; ++row) forward_tile<Cell, 1>(shape, step, panel, row, i, count);
  });
}

// On the way back R is packed by groups of kGroup panels: of a group the columns of each row, or pair of rows, follow
// each other. A share of kDepth of these stays in the first-level cache while all rows of gradients use it.
constexpr std::int64_t kGroup = 4, kDepth = 128;

/// A panel of R within its group.
template <class T>
void pack_backward(const RecurrentShape& shape, const void* r, void* packed, std::int64_t panel) {
  constexpr std::int64_t kPair = kTogether<T>;
  const std::int64_t n = shape.gates() * shape.hidden, lane_count = lanes(), i = panel * lane_count;
  const std::int64_t group = panel / kGroup * kGroup, panels = (shape.hidden + lane_count - 1) / lane_count;
  const std::int64_t width = HWY_MIN(kGroup, panels - group) * lane_count;
  const std::int64_t columns = HWY_MIN(lane_count, shape.hidden - i);
  const T* rows = static_cast<const T*>(r) + i;
  T* to = static_cast<T*>(packed) + group * lane_count * n + (panel - group) * kPair * lane_count;
  for (std::int64_t k = 0; k < n; k += kPair, to += kPair * width)
    for (std::int64_t c = 0; c < lane_count; ++c)
      for (std::int64_t j = 0; j < kPair; ++j) to[c * kPair + j] = c < columns ? rows[(k + j) * shape.hidden + c] : T();
}

/// kRows of dh += sums [kRows, depth] times packed weights, of kVectors vectors.
template <std::int64_t kRows, std::int64_t kVectors>
HWY_INLINE void backward_tile(const RecurrentShape& shape, const float* sums, const float* weights, std::int64_t depth,
                              float* dh, std::int64_t columns) {
  const std::int64_t width = lanes();
  V total[kRows][kVectors];
  const auto place = [&](std::int64_t r, std::int64_t v) { return dh + r * shape.hidden + v * width; };
  const bool is_whole = columns == kVectors * width;
  const std::int64_t rest = columns - (kVectors - 1) * width;  // of the last vector
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t v = 0; v < kVectors; ++v)
      total[r][v] = is_whole || v + 1 < kVectors ? load(place(r, v)) : load_first(place(r, v), rest);
  for (std::int64_t k = 0; k < depth; ++k, weights += kVectors * width) {
    V row[kVectors];
    for (std::int64_t v = 0; v < kVectors; ++v) row[v] = load(weights + v * width);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const V factor = constant(sums[r * shape.stride + k]);
      for (std::int64_t v = 0; v < kVectors; ++v) total[r][v] = hn::MulAdd(factor, row[v], total[r][v]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      if (is_whole || v + 1 < kVectors)
        store(total[r][v], place(r, v));
      else
        store_first(total[r][v], place(r, v), rest);
    }
  }
}

/// A group of 1 to kGroup vectors.
template <std::int64_t kRows>
void add_tile(const RecurrentShape& shape, const float* sums, const float* weights, std::int64_t depth, float* dh,
              std::int64_t columns) {
  switch ((columns + lanes() - 1) / lanes()) {
    case 1:
      return backward_tile<kRows, 1>(shape, sums, weights, depth, dh, columns);
    case 2:
      return backward_tile<kRows, 2>(shape, sums, weights, depth, dh, columns);
    case 3:
      return backward_tile<kRows, 3>(shape, sums, weights, depth, dh, columns);
    default:
      return backward_tile<kRows, kGroup>(shape, sums, weights, depth, dh, columns);
  }
}
template <std::int64_t kRows>
void add_tile(const RecurrentShape& shape, const bf16* sums, const bf16* weights, std::int64_t depth, float* dh,
              std::int64_t columns) {
  constexpr std::int64_t kPair = kTogether<bf16>;
  const std::int64_t vectors = (columns + kBf16Lanes - 1) / kBf16Lanes;
  find_bf16_tile(kRows, vectors)({.a = sums,
                                  .a_row = shape.stride,
                                  .a_pair = kPair,
                                  .b = weights,
                                  .pairs = depth / kPair,
                                  .y = dh,
                                  .y_row = shape.hidden,
                                  .columns = columns,
                                  .adds = true});
}

/// dh += sums [rows, n] R.
template <class T>
void add_product(const RecurrentShape& shape, const T* sums, const T* weights, float* dh, std::int64_t n,
                 std::int64_t rows) {
  const std::int64_t group = kGroup * lanes();
  for (std::int64_t i = 0; i < shape.hidden; i += group) {
    const std::int64_t columns = HWY_MIN(group, shape.hidden - i), width = (columns + lanes() - 1) / lanes() * lanes();
    for (std::int64_t k = 0; k < n; k += kTogether<T> * kDepth) {
      const std::int64_t depth = HWY_MIN(kTogether<T> * kDepth, n - k);
      const T* share = weights + i * n + k * width;
      std::int64_t row = 0;
      for (; row + kBackwardRows <= rows; row += kBackwardRows)
        add_tile<kBackwardRows>(shape, sums + row * shape.stride + k, share, depth, dh + row * shape.hidden + i,
                                columns);
      for (; row < rows; ++row)
        add_tile<1>(shape, sums + row * shape.stride + k, share, depth, dh + row * shape.hidden + i, columns);
    }
  }
}

/// What the cell will read for this row.
template <class Cell>
HWY_INLINE void fetch_ahead(const RecurrentShape& shape, const RecurrentBackward& step, std::int64_t row,
                            std::int64_t i) {
  for (std::int64_t g = 0; g < Cell::kGates; ++g) hwy::Prefetch(step.gates + row * shape.stride + g * shape.hidden + i);
  if (step.c) hwy::Prefetch(step.c + row * shape.hidden + i);
  if (step.dy) hwy::Prefetch(step.dy + row * shape.hidden + i);
}

template <class Cell, class T>
void backward(const RecurrentShape& shape, const RecurrentBackward& step, std::int64_t rows) {
  for (std::int64_t row = 0; row < rows; ++row) {
    for_vectors(shape.hidden, [&](std::int64_t i, auto count) {
      if (row + 1 < rows) fetch_ahead<Cell>(shape, step, row + 1, i);
      const Place<RecurrentBackward, decltype(count)> at{step, shape, row, i, count};
      V dh = at.state(step.dh);
      if (step.dy) dh = hn::Add(dh, at.state(step.dy));
      Cell::template backward<T>(at, dh);
    });
  }
  const void* sums = shape.cell == RecurrentCell::gru ? step.recurrent : step.input;
  add_product(shape, static_cast<const T*>(sums), static_cast<const T*>(step.weights), step.dh,
              Cell::kGates * shape.hidden, rows);
}

template <class Cell>
RecurrentKernel::Functions functions_of(DType products) {
  RecurrentKernel::Functions f{.pack = &pack<float>,
                               .pack_backward = &pack_backward<float>,
                               .forward = &forward<Cell, float>,
                               .backward = &backward<Cell, float>,
                               .lanes = lanes(),
                               .rows = std::lcm(kForwardRows, kBackwardRows),
                               .element_bytes = sizeof(float)};
  if (products == DType::f32) return f;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  if (products == DType::bf16 && lanes() == kBf16Lanes && find_bf16_tile(1, 1)) {
    f.pack = &pack<bf16>;
    f.pack_backward = &pack_backward<bf16>;
    f.forward = &forward<Cell, bf16>;
    f.backward = &backward<Cell, bf16>;
    f.element_bytes = sizeof(bf16);
    return f;
  }
#endif
  return {};
}

RecurrentKernel::Functions find(RecurrentCell cell, DType products) {
  switch (cell) {
    case RecurrentCell::rnn_tanh:
      return functions_of<Rnn<RnnTanh>>(products);
    case RecurrentCell::rnn_relu:
      return functions_of<Rnn<RnnRelu>>(products);
    case RecurrentCell::lstm:
      return functions_of<Lstm>(products);
    case RecurrentCell::gru:
      return functions_of<Gru>(products);
  }
  return {};
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);

RecurrentKernel find_recurrent(const RecurrentShape& shape, DType products) {
  if (products == DType::bf16 && shape.hidden % 2 != 0) return RecurrentKernel({}, shape);
  return RecurrentKernel(HWY_DYNAMIC_DISPATCH(find)(shape.cell, products), shape);
}

}  // namespace halfstep::simd
#endif
