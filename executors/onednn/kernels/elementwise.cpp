// Elementwise operators by SIMD kernels, in whatever layout the operands lie.
#include "executors/onednn/simd/elementwise.h"

#include <algorithm>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"

namespace halfstep::onednn {
namespace {

using simd::BinaryOp;
using simd::ElementwiseParams;
using simd::UnaryOp;

struct UnaryRow {
  std::string_view op;
  UnaryOp unary;
  bool keeps_zero;            ///< f(0) = 0: padding stays what it must be
  float alpha = 0, beta = 0;  ///< defaults of the attributes of these names
};
constexpr UnaryRow kUnary[] = {
    {"Relu", UnaryOp::relu, true},
    {"LeakyRelu", UnaryOp::leaky_relu, true, 0.01F},
    {"Elu", UnaryOp::elu, true, 1},
    {"Neg", UnaryOp::neg, true},
    {"Abs", UnaryOp::abs, true},
    {"Sign", UnaryOp::sign, true},
    {"Reciprocal", UnaryOp::reciprocal, false},
    {"Sqrt", UnaryOp::sqrt, true},
    {"Exp", UnaryOp::exp, false},
    {"Log", UnaryOp::log, false},
    {"Erf", UnaryOp::erf, true},
    {"Sigmoid", UnaryOp::sigmoid, false},
    {"HardSigmoid", UnaryOp::hard_sigmoid, false, 0.2F, 0.5F},
    {"Tanh", UnaryOp::tanh, true},
    {"Softplus", UnaryOp::softplus, false},
    {"HardSwish", UnaryOp::hard_swish, true},
    {"Gelu", UnaryOp::gelu, true},
};

struct BinaryRow {
  std::string_view op;
  BinaryOp binary;
  bool keeps_zero;         ///< f(0, 0) = 0
  bool keeps_zero_scalar;  ///< f(0, s) = 0 for every finite s but 0
};
constexpr BinaryRow kBinary[] = {
    {"Add", BinaryOp::add, true, false},  {"Sub", BinaryOp::sub, true, false},
    {"Mul", BinaryOp::mul, true, true},   {"Div", BinaryOp::div, false, true},
    {"Min", BinaryOp::min, true, false},  {"Max", BinaryOp::max, true, false},
    {"Pow", BinaryOp::pow, false, false}, {"ReluGrad", BinaryOp::relu_grad, true, true},
};

template <class Row, std::size_t n>
const Row* find_row(const Row (&rows)[n], std::string_view op) {
  const Row* found = std::find_if(rows, rows + n, [&](const Row& row) { return row.op == op; });
  return found == rows + n ? nullptr : found;
}

bool is_tanh_gelu(const Node& node) { return node.attributes.get_string("approximate", "none") == "tanh"; }

Made run_unary(KernelContext& context, simd::UnaryKernel kernel, bool keeps_zero) {
  const Layout layout = context.layout(0);
  const Operand x = context.read(0, layout.is_padded() && !keeps_zero ? Layout() : layout);
  const Operand y = context.write_over(0, x);
  return {"simd", {}, [=, n = x.stored()](const Memory& memory) -> Run {
            return [=, from = memory.at(x), to = memory.at(y)] { kernel(from, to, n); };
          }};
}

/// How operands of different shapes lie together: the layout each is read in, the layout of the result, and the walk.
struct Together {
  Layout layouts[2], result;
  std::optional<simd::Broadcast> walk;
};

// Extents in the order of memory of `big`.
Dims permuted(const Dims& dims, const std::vector<std::size_t>& order) {
  Dims result;
  for (std::size_t axis : order) result.push_back(dims[axis]);
  return result;
}

/// One operand has the result's shape and lies in a permuted layout; the other is a vector along one axis, or a scalar.
std::optional<Together> broadcast_permuted(KernelContext& context, std::size_t big) {
  const std::size_t small = 1 - big;
  const Layout layout = context.layout(big);
  const Shape& shape = context.out(0).shape;
  if (layout.is_row_major() || !layout.is_permutation() || layout.dims() != dims_of(shape)) return std::nullopt;
  Dims vector = dims_of(context.in(small).shape);
  vector.insert(vector.begin(), shape.rank() - std::min(shape.rank(), vector.size()), 1);
  if (vector.size() != shape.rank() || std::count_if(vector.begin(), vector.end(), [](auto d) { return d != 1; }) > 1)
    return std::nullopt;
  const std::vector<std::size_t> order = layout.axis_order();
  const Dims whole = permuted(dims_of(shape), order), part = permuted(vector, order);
  Together t;
  t.layouts[big] = t.result = layout;
  t.walk.emplace(whole, big == 0 ? std::initializer_list<simd::Broadcast::Extents>{whole, part}
                                 : std::initializer_list<simd::Broadcast::Extents>{part, whole});
  return t;
}

/// One operand has the result's shape, in any layout, and the other is a scalar.
std::optional<Together> broadcast_scalar(KernelContext& context, const BinaryRow& row, std::size_t big) {
  const Layout layout = context.layout(big);
  if (context.in(1 - big).shape.count() != 1 || context.in(big).shape != context.out(0).shape) return std::nullopt;
  if (layout.is_padded() && !(row.keeps_zero_scalar && big == 0)) return std::nullopt;
  Together t;
  t.layouts[big] = t.result = layout;
  const Dims whole{layout.stored(context.out(0).shape.count())}, one{1};
  t.walk.emplace(whole, big == 0 ? std::initializer_list<simd::Broadcast::Extents>{whole, one}
                                 : std::initializer_list<simd::Broadcast::Extents>{one, whole});
  return t;
}

Together lay_together(KernelContext& context, const BinaryRow& row) {
  const Shape &a = context.in(0).shape, &b = context.in(1).shape, &y = context.out(0).shape;
  if (a == b) {
    Together t;
    const Layout other = context.layout(0).is_row_major() ? context.layout(1) : context.layout(0);
    Layout common = context.wanted_layout(0).value_or(other);
    if (common.is_padded() && !row.keeps_zero) common = Layout();
    t.layouts[0] = t.layouts[1] = t.result = common;
    return t;
  }
  for (std::size_t big : {0, 1})
    if (auto t = broadcast_scalar(context, row, big)) return *t;
  for (std::size_t big : {0, 1})
    if (auto t = broadcast_permuted(context, big)) return *t;
  Together t;
  t.walk.emplace(y.dims(), std::initializer_list<simd::Broadcast::Extents>{a.dims(), b.dims()});
  return t;
}

Made run_binary(KernelContext& context, const BinaryRow& row, ElementwiseParams params) {
  const DType dtype = context.out(0).dtype;
  const simd::BinaryKernel kernel = simd::find_binary(row.binary, dtype, params);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(dtype)));
  // Pow's exponent may have another type.
  if (context.in(0).dtype != dtype || context.in(1).dtype != dtype) return refuse("operands of different types");
  const Together t = lay_together(context, row);
  if (t.walk && !t.walk->valid()) return refuse("broadcasting over too many axes");
  const Operand a = context.read(0, t.layouts[0]), b = context.read(1, t.layouts[1]);
  Operand y;
  if (a.shape == context.out(0).shape)
    y = context.write_over(0, a);
  else if (b.shape == context.out(0).shape)
    y = context.write_over(0, b);
  else
    y = context.write(0, t.result);
  if (!t.walk) {
    return {"simd", {}, [=, n = a.stored()](const Memory& memory) -> Run {
              return [=, x0 = memory.at(a), x1 = memory.at(b), to = memory.at(y)] { kernel(x0, x1, to, n); };
            }};
  }
  return {"simd", {}, [=, walk = *t.walk](const Memory& memory) -> Run {
            return [=, x0 = memory.at(a), x1 = memory.at(b), to = memory.at(y)] { kernel(walk, x0, x1, to); };
          }};
}

}  // namespace

Made make_unary(KernelContext& context) {
  const Node& node = context.node();
  const DType dtype = context.in(0).dtype;
  const UnaryRow* row = find_row(kUnary, node.op);
  UnaryOp op = row ? row->unary : UnaryOp::silu;
  ElementwiseParams params;
  if (row) {
    params.alpha = node.attributes.get_float("alpha", row->alpha);
    params.beta = node.attributes.get_float("beta", row->beta);
  }
  if (node.op == "Swish" && node.attributes.get_float("alpha", 1) != 1)
    return refuse("Swish with another alpha than 1");
  if (node.op == "Gelu" && is_tanh_gelu(node)) op = UnaryOp::gelu_tanh;
  const simd::UnaryKernel kernel = simd::find_unary(op, dtype, params);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(dtype)));
  return run_unary(context, kernel, row == nullptr || row->keeps_zero);
}

namespace {

/// Clip's bounds from inputs `first` and `first + 1`, when they are constants.
std::optional<ElementwiseParams> bounds(KernelContext& context, std::size_t first) {
  ElementwiseParams params{-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()};
  for (std::size_t i : {first, first + 1}) {
    if (!context.has_input(i)) continue;
    const auto value = context.constant_scalar(i);
    if (!value) return std::nullopt;
    (i == first ? params.alpha : params.beta) = static_cast<float>(*value);
  }
  return params;
}

}  // namespace

Made make_clip(KernelContext& context) {
  const auto params = bounds(context, 1);
  if (!params) return refuse("bounds that are computed");
  const simd::UnaryKernel kernel = simd::find_unary(UnaryOp::clip, context.in(0).dtype, *params);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(context.in(0).dtype)));
  return run_unary(context, kernel, params->alpha <= 0 && params->beta >= 0);
}

Made make_clip_grad(KernelContext& context) {
  const auto params = bounds(context, 2);
  if (!params) return refuse("bounds that are computed");
  return run_binary(context, {"ClipGrad", BinaryOp::clip_grad, true, true}, *params);
}

Made make_gelu_grad(KernelContext& context) {
  const BinaryOp op = is_tanh_gelu(context.node()) ? BinaryOp::gelu_tanh_grad : BinaryOp::gelu_grad;
  return run_binary(context, {"GeluGrad", op, true, true}, {});
}

Made make_binary(KernelContext& context) {
  const BinaryRow* row = find_row(kBinary, context.node().op);
  if (context.node().inputs.size() != 2) return refuse("other than two operands");
  return run_binary(context, *row, {});
}

Made make_where(KernelContext& context) {
  const std::size_t bits = bits_of(context.out(0).dtype);
  if (bits < 8 || bits > 64) return refuse("elements that are not 1 to 8 bytes");
  const Shape &c = context.in(0).shape, &a = context.in(1).shape, &b = context.in(2).shape;
  const Shape& shape = context.out(0).shape;
  simd::Broadcast walk(shape.dims(), {c.dims(), a.dims(), b.dims()});
  if (!walk.valid()) return refuse("broadcasting over too many axes");
  const Operand condition = context.read(0, Layout());
  Layout layout;
  const auto fits = [&](const Shape& s) { return s == shape || s == Shape(); };
  if (c == Shape() && fits(a) && fits(b)) {  // the same for all elements: they may lie in any way
    const std::size_t whole = b == shape && !context.layout(2).is_row_major() ? 2 : 1;
    layout = context.wanted_layout(0).value_or(context.in(whole).shape == shape ? context.layout(whole) : Layout());
    if (layout.is_padded() && a != b) layout = Layout();  // a scalar would go into the padding
  }
  const Operand x = context.read(1, a == shape ? layout : Layout());
  const Operand y = context.read(2, b == shape ? layout : Layout());
  if (!layout.is_row_major()) {
    const std::int64_t stored[] = {std::max(x.stored(), y.stored())};
    const auto extents = [&](const Shape& s) {
      return s == shape ? simd::Broadcast::Extents(stored) : simd::Broadcast::Extents();
    };
    walk = simd::Broadcast(stored, {extents(c), extents(a), extents(b)});
  }
  const Operand result = a == shape   ? context.write_over(0, x)
                         : b == shape ? context.write_over(0, y)
                                      : context.write(0, layout);
  return {"simd", {}, [=](const Memory& memory) -> Run {
            return [=, p = memory.at(condition), q = memory.at(x), r = memory.at(y), to = memory.at(result)] {
              simd::where(walk, bits / 8, p, q, r, to);
            };
          }};
}

Made make_cast(KernelContext& context) {
  const Value &x = context.in(0), &y = context.out(0);
  if (context.node().op == "Cast" && context.node().attributes.get_int("to", 0) != static_cast<std::int64_t>(y.dtype))
    return refuse("a result of another type than asked for");
  const ValueId output = context.node().outputs[0];
  if (context.assembly().schedule().is_lazy[output]) {
    context.assembly().set_lazy(context.node().outputs[0], context.node().inputs[0]);
    return {"simd", "made when first read, in the reader's layout", {}};
  }
  if (x.dtype == y.dtype) {
    const Operand same = context.read(0);
    context.alias(same);
    return {"alias", {}, {}};
  }
  const simd::UnaryKernel kernel = simd::find_cast(x.dtype, y.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD conversion from {} to {}", name_of(x.dtype), name_of(y.dtype)));
  const Operand from = context.read(0, context.layout(0));
  const Operand to = context.write(0, from.layout);
  return {"simd", {}, [=, n = from.stored()](const Memory& memory) -> Run {
            return [=, a = memory.at(from), b = memory.at(to)] { kernel(a, b, n); };
          }};
}

}  // namespace halfstep::onednn
