// Operators that reduce a tensor along axes: Reduce*.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/families.h"
#include "ops/family_parts.h"
#include "ops/magnitude.h"
#include "ops/onnx_row.h"
#include <halfstep/ops/gradient_util.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

/// Axes that a Reduce* node reduces, from its attributes and the elements of its `axes` input.
std::vector<std::size_t> reduced_axes(const Node& node, const std::vector<std::int64_t>& axes, std::size_t rank) {
  if (!axes.empty()) return normalize_axes(axes, rank);
  std::vector<std::size_t> all(node.attributes.get_int("noop_with_empty_axes", 0) ? 0 : rank);
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

/// `shape` with extent 1 along `axes`.
Shape keep_dims(Shape shape, const std::vector<std::size_t>& axes) {
  for (std::size_t axis : axes) shape[axis] = 1;
  return shape;
}

/// `shape` without `axes`.
Shape drop_dims(const Shape& shape, const std::vector<std::size_t>& axes) {
  std::vector<std::int64_t> dims;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis)
    if (std::ranges::find(axes, axis) == axes.end()) dims.push_back(shape[axis]);
  return Shape(std::move(dims));
}

/// out[0] = f(the reduced elements, in order), with each group as a std::span<const W>.
template <class W, class F>
void reduce(KernelCall& call, F f) {
  const Tensor& x = call.in[0];
  const std::vector<std::int64_t> given = call.has_in(1) ? to_int64s(call.in[1]) : std::vector<std::int64_t>();
  const std::vector<std::size_t> axes = reduced_axes(call.node, given, x.shape().rank());
  const Shape kept = keep_dims(x.shape(), axes);
  const auto groups = static_cast<std::size_t>(kept.count());
  const std::size_t size = groups == 0 ? 0 : static_cast<std::size_t>(x.count()) / groups;

  const std::vector<W> values = load<W>(x);
  const BroadcastOffsets group_of(kept, x.shape());
  std::vector<W> grouped(values.size());
  std::vector<std::size_t> filled(groups);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto group = static_cast<std::size_t>(group_of(static_cast<std::int64_t>(i)));
    grouped[group * size + filled[group]++] = values[i];
  }
  std::vector<W> y(groups);
  for (std::size_t group = 0; group < groups; ++group)
    y[group] = static_cast<W>(f(std::span<const W>(grouped).subspan(group * size, size)));

  const bool keep = call.node.attributes.get_int("keepdims", 1) == 1;
  store(ensure_out(call, 0, x.dtype(), keep ? kept : drop_dims(x.shape(), axes)), std::span<const W>(y));
}

template <auto F>
void reduction(KernelCall& call) {
  visit_wide(call.in[0].dtype(), [&]<class W>() { reduce<W>(call, F); });
}
template <auto F>
void float_reduction(KernelCall& call) {
  reduce<double>(call, F);
}

// Integers add and multiply modulo 2^64, which keeps the low bits of every type exact.
template <class W>
using Modular = std::conditional_t<std::is_integral_v<W>, std::uint64_t, W>;
template <class W>
Modular<W> magnitude(W x) {
  const auto wide = static_cast<Modular<W>>(x);
  if constexpr (std::is_unsigned_v<W>)
    return wide;
  else
    return x < 0 ? Modular<W>{} - wide : wide;
}

constexpr auto sum = []<class W>(std::span<const W> x) {
  Modular<W> total{};
  for (W v : x) total += static_cast<Modular<W>>(v);
  return static_cast<W>(total);
};
constexpr auto mean = []<class W>(std::span<const W> x) -> W {
  if constexpr (std::is_floating_point_v<W>)
    return sum(x) / static_cast<W>(x.size());
  else
    return x.empty() ? W{} : sum(x) / static_cast<W>(x.size());
};
constexpr auto product = []<class W>(std::span<const W> x) {
  Modular<W> total{1};
  for (W v : x) total *= static_cast<Modular<W>>(v);
  return total;
};
constexpr auto l1 = []<class W>(std::span<const W> x) {
  Modular<W> total{};
  for (W v : x) total += magnitude(v);
  return total;
};
constexpr auto sum_square = []<class W>(std::span<const W> x) {
  Modular<W> total{};
  for (W v : x) total += static_cast<Modular<W>>(v) * static_cast<Modular<W>>(v);
  return total;
};
constexpr auto l2 = []<class W>(std::span<const W> x) { return std::sqrt(static_cast<double>(sum_square(x))); };
constexpr auto log_sum = [](std::span<const double> x) { return std::log(sum(x)); };
constexpr auto log_sum_exp = [](std::span<const double> x) {
  const double top = x.empty() ? -std::numeric_limits<double>::infinity() : *std::ranges::max_element(x);
  if (std::ranges::any_of(x, [](double v) { return std::isnan(v); })) return std::numeric_limits<double>::quiet_NaN();
  if (std::isinf(top)) return top;
  double total = 0;
  for (double v : x) total += std::exp(v - top);
  return top + std::log(total);
};

/// Maximum (or minimum) of each group; NaN takes precedence. For an empty group the bound of the element type.
template <bool kLargest>
void extremum(KernelCall& call) {
  const DType dtype = call.in[0].dtype();
  visit_wide(dtype, [&]<class W>() {
    W bound = kLargest ? std::numeric_limits<W>::lowest() : std::numeric_limits<W>::max();
    if constexpr (std::is_floating_point_v<W>)
      bound = (kLargest ? -1 : 1) * std::numeric_limits<W>::infinity();
    else if constexpr (std::is_signed_v<W>)
      bound >>= 64 - bits_of(dtype);
    reduce<W>(call, [bound](std::span<const W> x) {
      W best = x.empty() ? bound : x[0];
      for (W v : x)
        if (v != v || (kLargest ? v > best : v < best)) best = v;
      return best;
    });
  });
}

/// A Reduce* node in its gradient rule.
struct Reduced {
  explicit Reduced(GradientContext& context)
      : g(context),
        shape(g.in(0).shape()),
        axes(reduced_axes(g.node, g.in(1) ? constant_ints(g, 1) : std::vector<std::int64_t>(), shape.rank())),
        kept(keep_dims(shape, axes)) {}

  Expr dy() const { return g.b.reshape(g.dy(), kept); }
  Expr y() const { return g.b.reshape(g.out(0), kept); }
  Expr expand(Expr x) const { return x.shape() == shape ? x : g.b.op("Expand", {x, g.b.ints(shape.dims())}); }
  Expr sum(Expr x) const {
    if (axes.empty()) return x;
    return g.b.reduce_sum(x, {axes.begin(), axes.end()}, /*keep_dims=*/true);
  }
  /// Number of elements reduced to one.
  double size() const {
    double n = 1;
    for (std::size_t axis : axes) n *= static_cast<double>(shape[axis]);
    return n;
  }

  GradientContext& g;
  Shape shape;
  std::vector<std::size_t> axes;
  Shape kept;
};

Gradients sum_gradient(GradientContext& g) {
  const Reduced r(g);
  return {r.expand(r.dy())};
}
Gradients mean_gradient(GradientContext& g) {
  const Reduced r(g);
  return {r.expand(r.dy() / r.size())};
}
Gradients extremum_gradient(GradientContext& g) {
  const Reduced r(g);
  const Expr mask = g.b.cast(g.b.op("Equal", {g.in(0), r.y()}), g.dy().dtype());
  return {r.dy() / r.sum(mask) * mask};
}
/// The product of all other elements, without a division: exact even if elements are 0.
Gradients product_gradient(GradientContext& g) {
  const Reduced r(g);
  std::vector<std::int64_t> order, inverse(r.shape.rank());
  for (std::size_t axis = 0; axis < r.shape.rank(); ++axis)
    if (std::ranges::find(r.axes, axis) == r.axes.end()) order.push_back(static_cast<std::int64_t>(axis));
  std::int64_t outer = 1;
  for (std::int64_t axis : order) outer *= r.shape.dim(axis);
  for (std::size_t axis : r.axes) order.push_back(static_cast<std::int64_t>(axis));
  for (std::size_t i = 0; i < order.size(); ++i) inverse[order[i]] = static_cast<std::int64_t>(i);

  std::vector<std::int64_t> moved;
  for (std::int64_t axis : order) moved.push_back(r.shape.dim(axis));
  const auto inner = static_cast<std::int64_t>(r.size());
  const Expr flat = g.b.reshape(g.b.transpose(g.in(0), order), Shape{outer, inner});
  const Expr axis = g.b.constant(Tensor::scalar(std::int64_t{1}));
  const Expr before = g.b.op("CumProd", {flat, axis}, {{"exclusive", std::int64_t{1}}});
  const Expr after = g.b.op("CumProd", {flat, axis}, {{"exclusive", std::int64_t{1}}, {"reverse", std::int64_t{1}}});
  const Expr others = g.b.transpose(g.b.reshape(before * after, Shape(moved)), inverse);
  return {r.dy() * others};
}
Gradients l1_gradient(GradientContext& g) { return {Reduced(g).dy() * g.b.op("Sign", {g.in(0)})}; }
Gradients l2_gradient(GradientContext& g) {
  const Reduced r(g);
  const Expr direction = g.in(0) / r.y();
  return {r.dy() * select(g.b.op("Equal", {r.y(), zero_like(r.y())}), zero_like(r.y()), direction)};
}
Gradients sum_square_gradient(GradientContext& g) { return {Reduced(g).dy() * (g.in(0) * 2)}; }
Gradients log_sum_gradient(GradientContext& g) {
  const Reduced r(g);
  return {r.expand(r.dy() / r.sum(g.in(0)))};
}
Gradients log_sum_exp_gradient(GradientContext& g) {
  const Reduced r(g);
  return {r.dy() * g.b.op("Exp", {g.in(0) - r.y()})};
}

std::vector<OpDef> reduce_rows() {
  using enum PrecisionClass;
  constexpr std::string_view kTies = "where several elements are the extremum the gradient is split evenly; NaN wins";
  return {
      onnx_row("ReduceSum", full, {}, reduction<sum>, sum_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceSum(x, axes) }"},
                {"(float[2,3,4] x) => (float[3] y) <int64[2] axes = {-1, 0}> { y = ReduceSum<keepdims=0>(x, axes) }"},
                {"(float[2,3] x) => (float[1,1] y) { y = ReduceSum(x) }"},
                {"(float[2,3] x) => (float[2,3] y) { y = ReduceSum<noop_with_empty_axes=1>(x) }"},
                {"(float[2,0] x) => (float[2,1] y) <int64[1] axes = {1}> { y = ReduceSum(x, axes) }"},
                {"() => (int32[1] y) <int32[3] x = {4, -9, 3}> { y = ReduceSum(x) }"}}),
      onnx_row("ReduceMean", full, {.magnitude = magnitude::same}, reduction<mean>, mean_gradient,
               {{"(float[2,3,4] x) => (float[2,1,1] y) <int64[2] axes = {1, 2}> { y = ReduceMean(x, axes) }"},
                {"(float[2,3] x) => (float[2] y) <int64[1] axes = {-1}> { y = ReduceMean<keepdims=0>(x, axes) }"},
                {"(float[2,3] x) => (float y) { y = ReduceMean<keepdims=0>(x) }"},
                {"(float x) => (float y) { y = ReduceMean(x) }"}},
               "integer means truncate"),
      onnx_row("ReduceMax", follow, {.extremes = Extremes::picked, .magnitude = magnitude::same}, extremum<true>,
               extremum_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceMax(x, axes) }"},
                {"(float[2,3] x) => (float[3] y) <int64[1] axes = {-2}> { y = ReduceMax<keepdims=0>(x, axes) }"},
                {"(float[2,3] x) => (float[1,1] y) { y = ReduceMax(x) }"},
                {"() => (int8[1] y) <int8[3] x = {4, -9, 3}> { y = ReduceMax(x) }"}},
               kTies),
      onnx_row("ReduceMin", follow, {.extremes = Extremes::picked}, extremum<false>, extremum_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceMin(x, axes) }"},
                {"(float[2,3] x) => (float[3] y) <int64[1] axes = {-2}> { y = ReduceMin<keepdims=0>(x, axes) }"},
                {"() => (uint8[1] y) <uint8[3] x = {4, 9, 3}> { y = ReduceMin(x) }"}},
               kTies),
      onnx_row("ReduceProd", full, {}, reduction<product>, product_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceProd(x, axes) }"},
                {"(float[2,3,2] x) => (float[3] y) <int64[2] axes = {0, -1}> { y = ReduceProd<keepdims=0>(x, axes) }"},
                {"(float[2,2] x) => (float[1,1] y) <float[2] m = {0, 1}> { z = Mul(x, m) y = ReduceProd(z) }"}}),
      onnx_row("ReduceL1", full, {}, reduction<l1>, l1_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceL1(x, axes) }"},
                {"(float[2,3] x) => (float[3] y) <int64[1] axes = {-2}> { y = ReduceL1<keepdims=0>(x, axes) }"}},
               "gradient 0 where an element is 0"),
      onnx_row("ReduceL2", full, {}, reduction<l2>, l2_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceL2(x, axes) }"},
                {"(float[2,3] x) => (float[3] y) <int64[1] axes = {-2}> { y = ReduceL2<keepdims=0>(x, axes) }"}},
               "gradient 0 where the norm is 0"),
      onnx_row("ReduceSumSquare", full, {}, reduction<sum_square>, sum_square_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceSumSquare(x, axes) }"},
                {"(float[2,3] x) => (float[2,3] y) { y = ReduceSumSquare<noop_with_empty_axes=1>(x) }"}}),
      onnx_row("ReduceLogSum", full, {}, float_reduction<log_sum>, log_sum_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceLogSum(x, axes) }", 0.5, 2},
                {"(float[2,3] x) => (float[3] y) <int64[1] axes = {-2}> { y = ReduceLogSum<keepdims=0>(x, axes) }", 0.5,
                 2}}),
      onnx_row("ReduceLogSumExp", full, {}, float_reduction<log_sum_exp>, log_sum_exp_gradient,
               {{"(float[2,3,4] x) => (float[2,1,4] y) <int64[1] axes = {1}> { y = ReduceLogSumExp(x, axes) }"},
                {"(float[2,3] x) => (float[3] y) <int64[1] axes = {-2}> { y = ReduceLogSumExp<keepdims=0>(x, axes) }"},
                {"(float[2,3] x) => (float[1,1] y) { y = ReduceLogSumExp(x) }"}}),
  };
}

}  // namespace

std::span<const OpDef> reduction_ops() {
  static const std::vector<OpDef> rows = join({reduce_rows(), scan_rows()});
  return rows;
}

}  // namespace halfstep::ops
