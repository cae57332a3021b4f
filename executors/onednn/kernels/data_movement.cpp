// Operators that move elements: views, Transpose, Concat, Slice, Expand.
#include <algorithm>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/elementwise.h"

namespace halfstep::onednn {

Made make_view(KernelContext& context) {
  // Only Identity keeps the axes that another layout than row-major speaks of.
  const Operand x = context.node().op == "Identity" ? context.read(0, context.layout(0)) : context.read(0, Layout());
  context.alias(x);
  return {"alias", {}, {}};
}

Made make_transpose(KernelContext& context) {
  const Shape &x = context.in(0).shape, &y = context.out(0).shape;
  if (data_type(context.in(0).dtype) == DataType::undef) return refuse("a type that oneDNN does not know");
  if (x.rank() == 0 || x.rank() > DNNL_MAX_NDIMS) return refuse("a number of axes that oneDNN does not know");
  const Layout layout = context.layout(0);
  const bool keeps = !layout.is_row_major() && layout.is_permutation() && layout.dims() == dims_of(x);
  Dims reversed(x.rank());
  for (std::size_t i = 0; i < x.rank(); ++i) reversed[i] = static_cast<std::int64_t>(x.rank() - 1 - i);
  const Dims perm = context.node().attributes.get_ints("perm", reversed);

  Operand operand = context.read(0, keeps ? layout : Layout());
  const Dims strides = operand.desc().get_strides();
  Dims moved;
  for (std::int64_t axis : perm) moved.push_back(strides[static_cast<std::size_t>(axis)]);
  operand.layout = Layout(Desc(dims_of(y), data_type(operand.dtype), moved));
  context.alias(operand);
  return {"alias", "another layout of the same memory", {}};
}

Made make_concat(KernelContext& context) {
  const Node& node = context.node();
  const DType dtype = context.out(0).dtype;
  const Shape& y = context.out(0).shape;
  if (data_type(dtype) == DataType::undef) return refuse("a type that oneDNN does not know");
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
    sources.push_back(context.layout(i).desc(context.in(i).shape, dtype));
  Pd pd = describe(sources);
  if (!pd.get(true) || is_slow(pd)) {
    const Layout first = context.layout(0);
    const Layout common = first.is_permutation() && first.dims().size() == y.rank() ? first : Layout();
    for (std::size_t i = 0; i < sources.size(); ++i) sources[i] = permuted_like(common, context.in(i).shape, dtype);
    pd = describe(sources);
    if (!pd.get(true)) return refuse("a concatenation that oneDNN does not know");
  }
  std::vector<Argument> arguments;
  for (std::size_t i = 0; i < sources.size(); ++i)
    arguments.push_back(
        {DNNL_ARG_MULTIPLE_SRC + static_cast<int>(i), sources[i], context.read(i, Layout(sources[i])).buffer});
  const Operand result = context.write(0, Layout(pd.dst_desc()));
  arguments.push_back({DNNL_ARG_DST, pd.dst_desc(), result.buffer});
  arguments.push_back({DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), context.scratch(pd.scratchpad_desc().get_size())});
  return {kernel_name(pd), {}, bind_primitive(dnnl::concat(pd), std::move(arguments))};
}

namespace {

/// The part of a tensor that Slice takes: where it starts, and the step along every axis, in elements.
struct Part {
  std::int64_t offset = 0;
  Dims dims, strides;
};

/// Slice's operands from input 1 on, over a row-major tensor of this shape; refused (empty) unless they are constants
/// and every step is positive.
std::optional<Part> part_of(KernelContext& context, const Shape& whole, const Shape& part) {
  const auto starts = context.constant_ints(1);
  const auto axes = context.has_input(3) ? context.constant_ints(3) : std::vector<std::int64_t>();
  const auto steps = context.has_input(4) ? context.constant_ints(4) : std::vector<std::int64_t>();
  if (!starts || !axes || !steps) return std::nullopt;
  Part result{0, dims_of(part), whole.strides()};
  for (std::size_t i = 0; i < starts->size(); ++i) {
    const std::size_t axis = axes->empty() ? i : normalize_axis((*axes)[i], whole.rank());
    const std::int64_t step = steps->empty() ? 1 : (*steps)[i];
    if (step <= 0) return std::nullopt;
    std::int64_t start = (*starts)[i];
    if (start < 0) start += whole[axis];
    start = std::clamp<std::int64_t>(start, 0, whole[axis]);
    result.offset += start * result.strides[axis];
    result.strides[axis] *= step;
  }
  return result;
}

/// A reorder with one side inside a larger tensor.
Bind bind_part(const Desc& from, BufferId from_buffer, std::size_t from_offset, const Desc& to, BufferId to_buffer,
               std::size_t to_offset) {
  const dnnl::reorder primitive(dnnl::reorder::primitive_desc(engine(), from, engine(), to));
  return [=](const Memory& memory) -> Run {
    dnnl::memory source(from, engine(), memory.as<std::byte>(from_buffer) + from_offset);
    dnnl::memory target(to, engine(), memory.as<std::byte>(to_buffer) + to_offset);
    std::vector<dnnl_exec_arg_t> arguments = {{DNNL_ARG_FROM, source.get()}, {DNNL_ARG_TO, target.get()}};
    return [primitive, source, target, arguments, stream = memory.stream()] {
      dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.get(), stream.get(), 2, arguments.data()),
                              "could not execute a reorder");
    };
  };
}

}  // namespace

Made make_slice(KernelContext& context) {
  const DType dtype = context.in(0).dtype;
  if (data_type(dtype) == DataType::undef || context.in(0).shape.rank() == 0)
    return refuse("a type that oneDNN does not know");
  const auto part = part_of(context, context.in(0).shape, context.out(0).shape);
  if (!part) return refuse("a slice that is computed, or runs backwards");
  const Operand x = context.read(0, Layout());
  const Operand y = context.write(0, Layout());
  const std::size_t offset = bytes_of(dtype, static_cast<std::size_t>(part->offset));
  return {"onednn: reorder",
          {},
          bind_part(Desc(part->dims, data_type(dtype), part->strides), x.buffer, offset, y.desc(), y.buffer, 0)};
}

Made make_slice_grad(KernelContext& context) {
  const DType dtype = context.in(0).dtype;
  if (data_type(dtype) == DataType::undef || context.in(0).shape.rank() == 0)
    return refuse("a type that oneDNN does not know");
  const auto part = part_of(context, context.out(0).shape, context.in(0).shape);
  if (!part) return refuse("a slice that is computed, or runs backwards");
  const Operand dy = context.read(0, Layout());
  const Operand dx = context.write(0, Layout());
  const std::size_t offset = bytes_of(dtype, static_cast<std::size_t>(part->offset));
  Bind clear = [dx](const Memory& memory) -> Run {
    return [to = memory.at(dx), bytes = dx.bytes()] { std::memset(to, 0, bytes); };
  };
  return {
      "onednn: reorder",
      {},
      in_sequence(std::move(clear), bind_part(dy.desc(), dy.buffer, 0,
                                              Desc(part->dims, data_type(dtype), part->strides), dx.buffer, offset))};
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
  return {"simd", {}, [=](const Memory& memory) -> Run {
            return [=, a = memory.at(from), y = memory.at(to)] {
              const bool yes = true;
              simd::where(walk, bits / 8, &yes, a, a, y);
            };
          }};
}

}  // namespace halfstep::onednn
