// Operators that create elements: constants, ranges, one-hot rows, positions.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "ops/family_parts.h"
#include "ops/movement/index_map.h"
#include "ops/onnx_row.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

void constant_of_shape(KernelCall& call) {
  const Attribute* value = call.node.attributes.find("value");
  const Tensor* given = value ? std::get_if<Tensor>(value) : nullptr;
  const Tensor element = given ? *given : Tensor::scalar(0.0f);
  if (element.count() != 1)
    throw_input_error("one element in ConstantOfShape's value", element.shape().to_string(), "check the node");
  const Shape shape(to_int64s(call.in[0]));
  if (!shape.is_static())
    throw_input_error("extents of at least 0", shape.to_string(), "check the shape fed to this operator");
  Tensor& out = ensure_out(call, 0, element.dtype(), shape);  // throws if it exceeds memory
  take(element, IndexMap(static_cast<std::size_t>(shape.count())), out);
}

/// How many numbers lie between, as a double that is exact below 2^53.
template <class W>
double range_length(W start, W limit, W delta) {
  if constexpr (std::is_integral_v<W>) {
    const auto distance = [](W from, W to) {
      return from < to ? static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from) : 0;
    };
    const std::uint64_t whole = delta > W{0} ? distance(start, limit) : distance(limit, start);
    const std::uint64_t step = delta > W{0} ? distance(W{0}, delta) : distance(delta, W{0});
    return step == 0 ? std::numeric_limits<double>::infinity()
                     : static_cast<double>(whole / step + (whole % step != 0 ? 1 : 0));
  } else {
    return delta == 0 ? std::numeric_limits<double>::infinity() : std::max(std::ceil((limit - start) / delta), 0.0);
  }
}

void range(KernelCall& call) {
  const DType dtype = call.in[0].dtype();
  for (const Tensor& operand : call.in)
    if (operand.count() != 1)
      throw_input_error("scalar start, limit and delta", operand.shape().to_string(), "check the operands of Range");
  visit_wide(dtype, [&]<class W>() {
    const W start = load<W>(call.in[0])[0], limit = load<W>(call.in[1])[0], delta = load<W>(call.in[2])[0];
    const double length = range_length(start, limit, delta);
    if (!(length < 0x1p40))
      throw_input_error("a Range of finite length", "delta " + std::to_string(delta), "check the operands of Range");
    Tensor& out = ensure_out(call, 0, dtype, {static_cast<std::int64_t>(length)});
    std::vector<W> values(static_cast<std::size_t>(out.count()));
    // Unsigned: the product may pass the ends of a signed type where the sum does not.
    using Modular = std::conditional_t<std::is_integral_v<W>, std::uint64_t, W>;
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<W>(static_cast<Modular>(start) + static_cast<Modular>(i) * static_cast<Modular>(delta));
    store(out, std::span<const W>(values));
  });
}

void one_hot(KernelCall& call) {
  const Tensor &indices = call.in[0], &values = call.in[2];
  const std::int64_t depth = single_int(call.in[1], "OneHot's depth");
  if (depth < 0 || values.count() != 2)
    throw_input_error("OneHot with depth of at least 0 and values [off, on]",
                      "depth " + std::to_string(depth) + ", values " + values.shape().to_string(),
                      "check the operands of OneHot");
  const std::size_t axis = normalize_axis(call.node.attributes.get_int("axis", -1), indices.shape().rank() + 1);
  std::vector<std::int64_t> dims = indices.shape().dims();
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), depth);
  const Shape shape(std::move(dims));
  Tensor& out = ensure_out(call, 0, values.dtype(), shape);

  IndexMap map(static_cast<std::size_t>(shape.count()));  // 0: off, 1: on
  const std::vector<std::int64_t> hot = to_int64s(indices);
  std::size_t line = 0;
  AxisView(shape, axis).for_each_line([&](std::int64_t start, std::int64_t step) {
    const std::int64_t index = hot[line++];
    if (index >= -depth && index < depth) map[start + (index < 0 ? index + depth : index) * step] = 1;
  });
  take(values, map, out);
}

void eye_like(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  if (shape.rank() != 2)
    throw_input_error("a matrix for EyeLike", shape.to_string(), "check the shapes fed to this operator");
  const auto dtype =
      static_cast<DType>(call.node.attributes.get_int("dtype", static_cast<std::int64_t>(call.in[0].dtype())));
  const std::int64_t k = call.node.attributes.get_int("k", 0);
  std::vector<std::uint64_t> values(static_cast<std::size_t>(shape.count()));
  const bool crosses = k > -shape[0] && k < shape[1];  // else row + k may overflow
  for (std::int64_t row = 0; crosses && row < shape[0]; ++row)
    if (row + k >= 0 && row + k < shape[1]) values[row * shape[1] + row + k] = 1;
  store(ensure_out(call, 0, dtype, shape), std::span<const std::uint64_t>(values));
}

void non_zero(KernelCall& call) {
  const Tensor& x = call.in[0];
  std::vector<std::int64_t> found;
  visit_wide(x.dtype(), [&]<class W>() {
    const std::vector<W> values = load<W>(x);
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] != W{}) found.push_back(static_cast<std::int64_t>(i));
  });
  const std::vector<std::int64_t> strides = x.shape().strides();
  const auto n = static_cast<std::int64_t>(found.size());
  Tensor& out = ensure_out(call, 0, DType::i64, {static_cast<std::int64_t>(strides.size()), n});
  auto* position = out.data<std::int64_t>();
  for (std::size_t axis = 0; axis < strides.size(); ++axis)
    for (std::int64_t index : found) *position++ = index / strides[axis] % x.shape()[axis];
}

std::vector<Expr> one_hot_gradient(GradientContext& g) {
  if (!g.wants(2) || !is_float(g.in(2).dtype())) return {};
  const DType dtype = g.dy().dtype();
  const Expr marks = g.b.constant(convert(Tensor::of<double>({0, 1}), dtype));
  const Expr hot = g.b.op("OneHot", {g.in(0), g.in(1), marks}, {{"axis", g.node.attributes.get_int("axis", -1)}});
  auto total = [&](Expr x) { return g.b.reshape(g.b.op("ReduceSum", {x}), Shape{1}); };
  return {Expr(), Expr(),
          g.b.op("Concat", {total(g.dy() * (1 - hot)), total(g.dy() * hot)}, {{"axis", std::int64_t{0}}})};
}

}  // namespace

std::vector<OpDef> generator_rows() {
  using enum PrecisionClass;
  return {
      onnx_row("ConstantOfShape", neutral, {}, constant_of_shape, no_gradient,
               {{"() => (float[2,3] y) <int64[2] s = {2, 3}> { y = ConstantOfShape(s) }"},
                {"() => (int64[2] y) <int64[1] s = {2}> { y = ConstantOfShape<value = int64[1] {7}>(s) }"},
                {"() => (float y) <int64[0] s = {}> { y = ConstantOfShape(s) }"}}),
      onnx_row("Range", neutral, {.operands = OperandRoles::all(OperandRole::setting)}, range, no_gradient,
               {{"() => (int64[3] y) <int64 a = {1}, int64 b = {6}, int64 d = {2}> { y = Range(a, b, d) }"},
                {"() => (int32[2] y) <int32 a = {10}, int32 b = {6}, int32 d = {-3}> { y = Range(a, b, d) }"},
                {"() => (float[4] y) <float a = {0}, float b = {1}, float d = {0.25}> { y = Range(a, b, d) }"},
                {"() => (int64[0] y) <int64 a = {5}, int64 b = {1}, int64 d = {1}> { y = Range(a, b, d) }"}}),
      onnx_row("OneHot", neutral, {.operands = {OperandRole::data, OperandRole::setting, OperandRole::setting}},
               one_hot, one_hot_gradient,
               {{"(float[2] v) => (float[3,4] y) <int64[3] i = {1, -1, 9}, int64 d = {4}> { y = OneHot(i, d, v) }"},
                {"(float[2] v) => (float[2,4,2] y) <int64[2,2] i = {0, 1, 2, 3}, int64 d = {4}>"
                 " { y = OneHot<axis=1>(i, d, v) }"},
                {"() => (int32[2,3] y) <int64[2] i = {0, 2}, int64 d = {3}, int32[2] v = {5, 8}>"
                 " { y = OneHot(i, d, v) }"}}),
      onnx_row("EyeLike", neutral, {}, eye_like, no_gradient,
               {{"(float[3,4] x) => (float[3,4] y) { y = EyeLike(x) }", -2, 2, false},
                {"(float[3,4] x) => (int32[3,4] y) { y = EyeLike<dtype=6, k=-1>(x) }", -2, 2, false}}),
      onnx_row("NonZero", neutral, {}, non_zero, no_gradient,
               {{"() => (int64[2,n] y) <int32[2,3] x = {1, 0, 0, 0, 5, 6}> { y = NonZero(x) }"},
                {"() => (int64[1,n] y) <bool[3] x = {1, 0, 1}> { y = NonZero(x) }"}},
               "numbers and bool, not strings"),
  };
}

}  // namespace halfstep::ops
