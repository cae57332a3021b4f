// Operators that process elements along one axis: ArgMax, CumSum, TopK and related ones.
#include <algorithm>
#include <functional>
#include <numeric>

#include "ops/family_parts.h"
#include "ops/movement/index_map.h"
#include "ops/onnx_row.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/gradient_util.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

template <bool kLargest>
void arg_extremum(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Attributes& attributes = call.node.attributes;
  const std::size_t axis = normalize_axis(attributes.get_int("axis", 0), x.shape().rank());
  const bool last = attributes.get_int("select_last_index", 0) != 0;
  const AxisView view(x.shape(), axis);
  if (view.extent == 0 && view.outer * view.inner > 0)
    throw_input_error("an axis with at least one element", "shape " + x.shape().to_string(),
                      "check the model's shapes");
  std::vector<std::int64_t> dims = x.shape().dims();
  if (attributes.get_int("keepdims", 1) == 1)
    dims[axis] = 1;
  else
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  Tensor& out = ensure_out(call, 0, DType::i64, Shape(std::move(dims)));
  visit_wide(x.dtype(), [&]<class W>() {
    const std::vector<W> values = load<W>(x);
    auto* y = out.data<std::int64_t>();
    view.for_each_line([&](std::int64_t start, std::int64_t step) {
      auto at = [&](std::int64_t i) { return values[start + i * step]; };
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < view.extent; ++i) {
        const W x_i = at(i), x_best = at(best);
        const bool equal = x_i == x_best || (x_i != x_i && x_best != x_best);
        const bool better = x_best == x_best && (x_i != x_i || (kLargest ? x_i > x_best : x_i < x_best));
        if (better || (last && equal)) best = i;
      }
      *y++ = best;
    });
  });
}

/// Running fold along an axis (integers modulo 2^64): y[i] = f(y[i-1], x[i]), starting from `unit`.
template <class F>
void scan(KernelCall& call, int unit, F f) {
  const Tensor& x = call.in[0];
  const std::size_t axis = normalize_axis(single_int(call.in[1], "the axis to accumulate along"), x.shape().rank());
  const bool exclusive = call.node.attributes.get_int("exclusive", 0) != 0;
  const bool reverse = call.node.attributes.get_int("reverse", 0) != 0;
  const AxisView view(x.shape(), axis);
  auto run = [&]<class W>() {
    std::vector<W> values = load<W>(x);
    view.for_each_line([&](std::int64_t start, std::int64_t step) {
      auto total = static_cast<W>(unit);
      for (std::int64_t i = 0; i < view.extent; ++i) {
        W& value = values[start + (reverse ? view.extent - 1 - i : i) * step];
        const W next = f(total, value);
        value = exclusive ? total : next;
        total = next;
      }
    });
    store(ensure_out(call, 0, x.dtype(), x.shape()), std::span<const W>(values));
  };
  if (is_float(x.dtype()))
    run.template operator()<double>();
  else
    run.template operator()<std::uint64_t>();
}
void cum_sum(KernelCall& call) { scan(call, 0, std::plus<>()); }
void cum_prod(KernelCall& call) { scan(call, 1, std::multiplies<>()); }

void top_k(KernelCall& call) {
  const Tensor& x = call.in[0];
  const std::size_t axis = normalize_axis(call.node.attributes.get_int("axis", -1), x.shape().rank());
  const bool largest = call.node.attributes.get_int("largest", 1) != 0;
  const AxisView view(x.shape(), axis);
  const std::int64_t k = single_int(call.in[1], "TopK's K");
  if (k < 0 || k > view.extent)
    throw_input_error("TopK's K in [0, " + std::to_string(view.extent) + "]", std::to_string(k),
                      "check K against the tensor's shape " + x.shape().to_string());
  Shape shape = x.shape();
  shape[axis] = k;
  Tensor &out = ensure_out(call, 0, x.dtype(), shape), &indices = ensure_out(call, 1, DType::i64, shape);
  visit_wide(x.dtype(), [&]<class W>() {
    const std::vector<W> values = load<W>(x);
    std::vector<W> best(static_cast<std::size_t>(shape.count()));
    std::vector<std::int64_t> order(static_cast<std::size_t>(view.extent));
    std::int64_t line = 0;
    view.for_each_line([&](std::int64_t start, std::int64_t step) {
      auto at = [&](std::int64_t i) { return values[start + i * step]; };
      std::iota(order.begin(), order.end(), std::int64_t{0});
      // NaN counts as the largest value: plain < would not be a strict weak order.
      auto less = [&](W a, W b) { return b != b ? a == a : a < b; };
      std::ranges::stable_sort(
          order, [&](std::int64_t a, std::int64_t b) { return largest ? less(at(b), at(a)) : less(at(a), at(b)); });
      const std::int64_t to = line / view.inner * k * view.inner + line % view.inner;
      for (std::int64_t i = 0; i < k; ++i) {
        best[to + i * view.inner] = at(order[i]);
        indices.data<std::int64_t>()[to + i * view.inner] = order[i];
      }
      ++line;
    });
    store(out, std::span<const W>(best));
  });
}

Gradients cum_sum_gradient(GradientContext& g) {
  const Attributes& forward = g.node.attributes;
  return {g.b.op("CumSum", {g.dy(), g.in(1)},
                 {{"exclusive", forward.get_int("exclusive", 0)}, {"reverse", 1 - forward.get_int("reverse", 0)}})};
}

// For y[j], the product of the x[k] before j, the derivative with respect to x[i] is the product of the x[k] before i
// times that of those between i and j: the latter is computed for every pair (i, j), so that nothing is divided by x.
Gradients cum_prod_gradient(GradientContext& g) {
  Builder& b = g.b;
  const Expr x = g.in(0);
  const Value& axis_operand = b.graph()[g.node.inputs[1]];
  if (!axis_operand.is_constant())
    throw_input_error("CumProd along an axis that is a constant", "one that the graph computes",
                      "export the model with a fixed axis");
  const Shape shape = x.shape();
  const std::size_t axis = normalize_axis(single_int(axis_operand.constant, "an axis"), shape.rank());
  const std::int64_t n = shape[axis];
  const bool reverse = g.node.attributes.get_int("reverse", 0) != 0;
  const bool exclusive = g.node.attributes.get_int("exclusive", 0) != 0;
  Tensor between(DType::boolean, Shape{n, n}), reached(DType::boolean, Shape{n, n});
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      const bool after = reverse ? j < i : j > i;
      between.data<bool>()[i * n + j] = after;
      reached.data<bool>()[i * n + j] = after || (j == i && !exclusive);
    }

  std::vector<std::int64_t> swapped = counting(static_cast<std::int64_t>(shape.rank()));
  std::swap(swapped[axis], swapped.back());
  const Expr last = b.scalar(-1, DType::i64), moved = b.transpose(x, swapped);
  std::vector<std::int64_t> dims = moved.shape().dims();
  dims.insert(dims.end() - 1, 1);
  const Shape row(std::move(dims));
  auto product = [&](Expr factors, bool without_own) {
    return b.op("CumProd", {factors, last},
                {{"exclusive", std::int64_t{without_own}}, {"reverse", std::int64_t{reverse}}});
  };
  const Expr one = b.scalar(1, x.dtype()), dy = b.reshape(b.transpose(g.dy(), swapped), row);
  const Expr factors = select(b.constant(between), b.reshape(moved, row), one);
  const Expr terms = select(b.constant(reached), product(factors, exclusive) * dy, zero_like(x));
  const Expr sums = b.reduce_sum(terms, {-1}, /*keep_dims=*/false);
  return {b.transpose(product(moved, /*without_own=*/true) * sums, swapped)};
}

Gradients top_k_gradient(GradientContext& g) {
  if (!g.dy()) return {};
  return {g.b.op("ScatterElements", {g.b.zeros_like(g.in(0)), g.out(1), g.dy()},
                 {{"axis", g.node.attributes.get_int("axis", -1)}})};
}

}  // namespace

std::vector<OpDef> scan_rows() {
  using enum PrecisionClass;
  return {
      onnx_row("ArgMax", follow, {.extremes = Extremes::picked}, arg_extremum<true>, no_gradient,
               {{"(float[2,3,4] x) => (int64[2,1,4] y) { y = ArgMax<axis=1>(x) }", -2, 2, false},
                {"(float[2,3] x) => (int64[2] y) { y = ArgMax<axis=-1, keepdims=0>(x) }", -2, 2, false},
                {"() => (int64[1] y) <int32[4] x = {3, 7, 7, 1}> { y = ArgMax<select_last_index=1>(x) }"}},
               "NaN counts as the largest, as in PyTorch"),
      onnx_row("ArgMin", follow, {.extremes = Extremes::picked}, arg_extremum<false>, no_gradient,
               {{"(float[2,3,4] x) => (int64[2,1,4] y) { y = ArgMin<axis=1>(x) }", -2, 2, false},
                {"() => (int64[1] y) <int32[4] x = {3, 1, 7, 1}> { y = ArgMin<select_last_index=1>(x) }"}},
               "NaN counts as the least, as in PyTorch"),
      onnx_row("CumSum", full, {}, cum_sum, cum_sum_gradient,
               {{"(float[2,5] x) => (float[2,5] y) <int64 axis = {1}> { y = CumSum(x, axis) }"},
                {"(float[3,2] x) => (float[3,2] y) <int64 axis = {-2}> { y = CumSum<exclusive=1>(x, axis) }"},
                {"(float[2,5] x) => (float[2,5] y) <int32 axis = {1}> { y = CumSum<reverse=1, exclusive=1>(x, axis) }"},
                {"() => (int32[3] y) <int32[3] x = {3, 1, -7}, int32 axis = {0}> { y = CumSum(x, axis) }"}}),
      onnx_row("CumProd", full, {}, cum_prod, cum_prod_gradient,
               {{"(float[2,5] x) => (float[2,5] y) <int64 axis = {1}> { y = CumProd(x, axis) }"},
                {"(float[3,2] x) => (float[3,2] y) <int64 axis = {0}> { y = CumProd<reverse=1>(x, axis) }"},
                {"(float[2,4,3] x) => (float[2,4,3] y) <int64 axis = {-2}> { y = CumProd<exclusive=1>(x, axis) }"},
                {"(float[3,2] x) => (float[3,2] y) <int64 axis = {0}> "
                 "{ y = CumProd<reverse=1, exclusive=1>(x, axis) }"},
                {"(float[3] a) => (float[4] y) <float[1] zero = {0.0}, int64 axis = {0}> "
                 "{ x = Concat<axis=0>(a, zero) y = CumProd(x, axis) }"},
                {"(float[0,2] x) => (float[0,2] y) <int64 axis = {0}> { y = CumProd(x, axis) }"}}),
      onnx_row("TopK", follow, {.extremes = Extremes::picked}, top_k, top_k_gradient,
               {{"(float[2,5] x) => (float[2,3] y, int64[2,3] i) <int64[1] k = {3}> { y, i = TopK(x, k) }"},
                {"(float[4,3] x) => (float[2,3] y, int64[2,3] i) <int64[1] k = {2}>"
                 " { y, i = TopK<axis=0, largest=0>(x, k) }"},
                {"() => (int32[2] y, int64[2] i) <int32[4] x = {3, 7, 7, 1}, int64[1] k = {2}> { y, i = TopK(x, k) }"}},
               "equal values in order of their index, sorted or not; NaN counts as the largest"),
  };
}

}  // namespace halfstep::ops
