// Operators that move whole tensors: Transpose, Concat, Expand.

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/simd_kernel.h"
#include "executors/onednn/reorder.h"
#include "executors/onednn/simd/elementwise.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::onednn {

Made make_transpose(KernelContext& context) {
  const Shape &x = context.in(0).shape, &y = context.out(0).shape;
  if (data_type(context.in(0).dtype) == DataType::undef) return refuse("a type that oneDNN does not know");
  if (x.rank() == 0 || x.rank() > DNNL_MAX_NDIMS) return refuse("a number of axes that oneDNN does not know");
  const Layout layout = context.layout(0);
  const bool keeps = !layout.is_row_major() && layout.is_permutation() && layout.dims() == dims_of(x);
  Dims reversed(x.rank());
  for (std::size_t i = 0; i < x.rank(); ++i) reversed[i] = static_cast<std::int64_t>(x.rank() - 1 - i);
  const Dims perm = context.node().attributes.get_ints("perm", reversed);

  if (perm.size() != x.rank()) return refuse("a perm that does not have every axis");

  Operand operand = context.read(0, keeps ? layout : Layout());
  const Dims strides = desc_of(operand).get_strides();
  Dims moved;
  for (std::int64_t axis : perm) moved.push_back(strides[axis]);
  operand.layout = layout_of(Desc(dims_of(y), data_type(operand.dtype), moved));
  context.alias(operand);
  return {"alias", "another layout of the same memory", {}};
}

namespace {

/// Copies each operand to its part of the result, in the first layout of these in which every part can be told.
Made concat_by_moves(KernelContext& context, std::size_t axis, std::initializer_list<Layout> layouts) {
  const DType dtype = context.out(0).dtype;
  const std::size_t parts = context.node().inputs.size();
  const Dims whole = dims_of(context.out(0).shape);
  for (const Layout& layout : layouts) {
    const Desc result = resized(layout, whole, dtype);
    if (!result.get(true)) continue;
    std::vector<Desc> from, to;
    Dims begin(whole.size(), 0);
    for (std::size_t i = 0; i < parts; ++i) {
      const Dims extents = dims_of(context.in(i).shape);
      from.push_back(resized(layout, extents, dtype));
      to.push_back(result.submemory_desc(extents, begin, true));
      if (!from[i].get(true) || !to[i].get(true)) break;
      begin[axis] += extents[axis];
    }
    if (begin[axis] != whole[axis]) continue;
    std::vector<Operand> operands;
    for (std::size_t i = 0; i < parts; ++i) operands.push_back(context.read(i, layout_of(from[i])));
    const Operand y = context.write(0, layout_of(result));
    Made all;
    for (std::size_t i = 0; i < parts; ++i) {
      Made one = make_move({from[i], operands[i].buffer}, {to[i], y.buffer},
                           [&](std::size_t bytes) { return context.scratch(bytes); });
      if (i > 0) one.bind = core::in_sequence(std::move(all.bind), std::move(one.bind));
      all = std::move(one);
    }
    return all;
  }
  return refuse("parts that have no descriptor");
}

}  // namespace

Made make_concat(KernelContext& context) {
  const Node& node = context.node();
  const DType dtype = context.out(0).dtype;
  const Shape& y = context.out(0).shape;
  if (data_type(dtype) == DataType::undef) return refuse("a type that oneDNN does not know");
  if (y.rank() > DNNL_MAX_NDIMS) return refuse("a number of axes that oneDNN does not know");
  const auto axis = static_cast<int>(normalize_axis(node.attributes.get_int("axis", 0), y.rank()));
  using Pd = dnnl::concat::primitive_desc;
  auto describe = [&](const std::vector<Desc>& sources) {
    try {  // this primitive has no way to refuse but an exception
      return Pd(engine(), any_order(dims_of(y), dtype), axis, sources, user_scratchpad());
    } catch (const dnnl::error&) {
      return Pd();
    }
  };
  // As the operands lie, when oneDNN concatenates those well; else all in the first one's order of axes, or row-major.
  std::vector<Desc> sources;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    sources.push_back(desc_of(context.layout(i), context.in(i).shape, dtype));
  Pd pd = describe(sources);
  if (!pd.get(true) || is_slow(pd)) {
    const Layout first = context.layout(0);
    const Layout common = first.is_permutation() && first.dims().size() == y.rank() ? first : Layout();
    for (std::size_t i = 0; i < sources.size(); ++i) sources[i] = permuted_like(common, context.in(i).shape, dtype);
    pd = describe(sources);
    if (!pd.get(true)) return refuse("a concatenation that oneDNN does not know");
    if (is_slow(pd) && y.count() > 0)
      return concat_by_moves(context, static_cast<std::size_t>(axis), {context.layout(0), common});
  }
  std::vector<Argument> arguments;
  for (std::size_t i = 0; i < sources.size(); ++i)
    arguments.push_back(
        {DNNL_ARG_MULTIPLE_SRC + static_cast<int>(i), sources[i], context.read(i, layout_of(sources[i])).buffer});
  const Operand result = context.write(0, layout_of(pd.dst_desc()));
  arguments.push_back({DNNL_ARG_DST, pd.dst_desc(), result.buffer});
  arguments.push_back({DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), context.scratch(pd.scratchpad_desc().get_size())});
  return {kernel_name(pd), {}, bind_primitive(dnnl::concat(pd), std::move(arguments))};
}

Made make_expand(KernelContext& context) {
  const std::size_t bits = bits_of(context.out(0).dtype);
  if (bits < 8 || bits > 64) return refuse("elements that are not 1 to 8 bytes");
  const Dims one{1};
  const Shape& x = context.in(0).shape;
  const simd::Broadcast walk(context.out(0).shape.dims(), {one, x.dims(), x.dims()});
  if (!walk.valid()) return refuse("broadcasting over too many axes");
  const Operand from = context.read(0, Layout());
  const Operand to = context.write(0, Layout());
  return simd_kernel([=, yes = true](auto* a, auto* y) { simd::where(walk, bits / 8, &yes, a, a, y); }, from, to);
}

}  // namespace halfstep::onednn
