// Elementwise operators by SIMD kernels, in whatever layout the operands lie.
#include "executors/onednn/simd/elementwise.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "executors/onednn/kernels/element_function.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/simd_kernel.h"
#include "executors/onednn/kernels/zero_flow.h"

namespace halfstep::onednn {
namespace {

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
std::optional<Together> broadcast_scalar(KernelContext& context, const ElementFunction& function, std::size_t big) {
  const Layout layout = context.layout(big);
  if (context.in(1 - big).shape.count() != 1 || context.in(big).shape != context.out(0).shape) return std::nullopt;
  if (layout.is_padded() && !(big == 0 && keeps_zero_beside_scalar(*function.def))) return std::nullopt;
  Together t;
  t.layouts[big] = t.result = layout;
  const Dims whole{layout.stored(context.out(0).shape.count())}, one{1};
  t.walk.emplace(whole, big == 0 ? std::initializer_list<simd::Broadcast::Extents>{whole, one}
                                 : std::initializer_list<simd::Broadcast::Extents>{one, whole});
  return t;
}

Together lay_together(KernelContext& context, const ElementFunction& function) {
  const Shape &a = context.in(0).shape, &b = context.in(1).shape, &y = context.out(0).shape;
  if (function.def->gives_truth) {
    Together t;
    t.walk.emplace(y.dims(), std::initializer_list<simd::Broadcast::Extents>{a.dims(), b.dims()});
    return t;
  }
  if (a == b) {
    Together t;
    const Layout other = context.layout(0).is_row_major() ? context.layout(1) : context.layout(0);
    Layout common = context.wanted_layout(0).value_or(other);
    if (common.is_padded() && !function.keeps_zero()) common = Layout();
    t.layouts[0] = t.layouts[1] = t.result = common;
    return t;
  }
  for (std::size_t big : {0, 1})
    if (auto t = broadcast_scalar(context, function, big)) return *t;
  for (std::size_t big : {0, 1})
    if (auto t = broadcast_permuted(context, big)) return *t;
  Together t;
  t.walk.emplace(y.dims(), std::initializer_list<simd::Broadcast::Extents>{a.dims(), b.dims()});
  return t;
}

}  // namespace

Made make_binary(KernelContext& context) {
  const ElementFunction function = element_function(context.graph(), context.node());
  if (!function.refusal.empty()) return refuse(std::string(function.refusal));
  const DType dtype = context.in(0).dtype;
  const simd::BinaryKernel kernel = simd::find_binary(function.def->formula, dtype, function.params);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(dtype)));
  if (context.in(1).dtype != dtype) return refuse("operands of different types");  // as Pow's exponent may have
  if (broadcast(context.in(0).shape, context.in(1).shape) != context.out(0).shape)
    return refuse("an operand that is larger than the result");
  const Together t = lay_together(context, function);
  if (t.walk && !t.walk->valid()) return refuse("broadcasting over too many axes");
  // One value as both operands is read once, so that the result may lie where it does.
  const bool is_one = context.node().inputs[0] == context.node().inputs[1];
  const Operand a = context.read(0, t.layouts[0]), b = is_one ? a : context.read(1, t.layouts[1]);
  Operand y;
  if (a.shape == context.out(0).shape && !function.def->gives_truth)
    y = context.write_over(0, a);
  else if (b.shape == context.out(0).shape && !function.def->gives_truth)
    y = context.write_over(0, b);
  else
    y = context.write(0, t.result);
  if (!t.walk) return simd_kernel([=, n = a.stored()](auto* p, auto* q, auto* r) { kernel(p, q, r, n); }, a, b, y);
  return simd_kernel([=, walk = *t.walk](auto* p, auto* q, auto* r) { kernel(walk, p, q, r); }, a, b, y);
}

Made make_unary(KernelContext& context) {
  const ElementFunction function = element_function(context.graph(), context.node());
  if (!function.refusal.empty()) return refuse(std::string(function.refusal));
  const DType dtype = context.in(0).dtype;
  const simd::UnaryKernel kernel = simd::find_unary(function.def->formula, dtype, function.params);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(dtype)));
  const Layout layout = context.layout(0);
  const bool is_kept = !function.def->gives_truth && (!layout.is_padded() || function.keeps_zero());
  const Operand x = context.read(0, is_kept ? layout : Layout());
  const Operand y = function.def->gives_truth ? context.write(0, Layout()) : context.write_over(0, x);
  return simd_kernel([=, n = x.stored()](auto* from, auto* to) { kernel(from, to, n); }, x, y);
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
  return simd_kernel([=](auto* p, auto* q, auto* r, auto* to) { simd::where(walk, bits / 8, p, q, r, to); }, condition,
                     x, y, result);
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
  const simd::UnaryKernel kernel = simd::find_cast(x.dtype, y.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD conversion from {} to {}", name_of(x.dtype), name_of(y.dtype)));
  const Operand from = context.read(0, context.layout(0));
  const Operand to = context.write(0, from.layout);
  return simd_kernel([=, n = from.stored()](auto* a, auto* b) { kernel(a, b, n); }, from, to);
}

}  // namespace halfstep::onednn
