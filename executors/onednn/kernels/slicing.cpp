// Operators that copy a part of a tensor, or into a part: Slice and its gradient, Split, row-major Concat, Pad.
#include <algorithm>
#include <cstring>
#include <optional>

#include "executors/core/part.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/reorder.h"
#include "executors/onednn/simd/strided_copy.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::onednn {
namespace {

using core::Part;

bool is_dense(const Part& part) {
  return std::ranges::all_of(part.steps, [](std::int64_t step) { return step == 1; });
}
bool runs_forward(const Part& part) {
  return std::ranges::all_of(part.steps, [](std::int64_t step) { return step > 0; });
}

/// The elements of a row-major tensor's part, `inward` from a tensor of the part's shape, or out to one.
Bind bind_part_copy(const Operand& whole, const Operand& part, const Part& where, bool inward) {
  const Shape& shape = whole.shape;
  Dims steps = shape.strides();
  std::int64_t offset = 0;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    offset += where.begin[axis] * steps[axis];
    steps[axis] *= where.steps[axis];
  }
  const Dims packed = Shape(where.extents).strides();
  const simd::StridedCopy copy = inward ? simd::StridedCopy(where.extents, packed, steps, bytes_of(part.dtype, 1))
                                        : simd::StridedCopy(where.extents, steps, packed, bytes_of(part.dtype, 1));
  const std::size_t skip = bytes_of(whole.dtype, static_cast<std::size_t>(offset));
  return [=](const Memory& memory) -> Run {
    return [=, large = memory.as<std::byte>(whole) + skip, small = memory.as<std::byte>(part)] {
      inward ? copy(small, large) : copy(large, small);
    };
  };
}

/// Why StridedCopy takes no such tensors; empty when it does.
std::string refusal_to_copy(const Value& value) {
  const std::size_t bits = bits_of(value.dtype);
  if (bits < 8 || bits > 64) return "elements that are not 1 to 8 bytes";
  if (value.shape.rank() > simd::StridedCopy::kMaxRank) return "too many axes";
  return {};
}

/// The layout of a part that oneDNN can take out of a tensor as this one lies; empty when it must be row-major first.
std::optional<Layout> layout_of_part(const Layout& layout, const Shape& whole, const Part& part, DType dtype) {
  if (layout.is_row_major() || layout.dims().size() != whole.rank() || !is_dense(part)) return std::nullopt;
  const Desc desc = desc_of(layout, whole, dtype);
  if (!desc.get(true) || !desc.submemory_desc(part.extents, part.begin, true).get(true)) return std::nullopt;
  const Desc same_order = resized(layout, part.extents, dtype);
  if (!same_order.get(true)) return std::nullopt;
  return layout_of(same_order);
}

/// Copies one part of input 0 to an output.
Bind copy_out(KernelContext& context, std::size_t output, const Part& part) {
  const Value& x = context.in(0);
  const auto layout = layout_of_part(context.layout(0), x.shape, part, x.dtype);
  const Operand whole = context.read(0, layout ? context.layout(0) : Layout());
  const Operand result = context.write(output, layout.value_or(Layout()));
  if (!layout) return bind_part_copy(whole, result, part, false);
  return make_move({desc_of(whole).submemory_desc(part.extents, part.begin, true), whole.buffer},
                   {desc_of(result, part.extents), result.buffer},
                   [&](std::size_t bytes) { return context.scratch(bytes); })
      .bind;
}

Bind then(Bind first, Bind second) {
  return first ? in_sequence(std::move(first), std::move(second)) : std::move(second);
}

/// Output 0 is zero but for the part that input 0 fills.
Made fill_part(KernelContext& context, const Part& part) {
  const Operand from = context.read(0, Layout());
  const Operand to = context.write(0, Layout());
  Bind clear = [to](const Memory& memory) -> Run {
    return [to = memory.at(to), bytes = to.bytes()] { std::memset(to, 0, bytes); };
  };
  return {"native", {}, in_sequence(std::move(clear), bind_part_copy(to, from, part, true))};
}

}  // namespace

Made make_slice(KernelContext& context) {
  if (std::string reason = refusal_to_copy(context.in(0)); !reason.empty()) return refuse(reason);
  const auto part = core::part_of_slice(context, context.in(0).shape, context.out(0).shape);
  if (!part || !runs_forward(*part)) return refuse("a slice that is computed, or runs backwards");
  return {"native", {}, copy_out(context, 0, *part)};
}

Made make_slice_grad(KernelContext& context) {
  if (std::string reason = refusal_to_copy(context.in(0)); !reason.empty()) return refuse(reason);
  const auto part = core::part_of_slice(context, context.out(0).shape, context.in(0).shape);
  if (!part || !runs_forward(*part)) return refuse("a slice that is computed, or runs backwards");
  return fill_part(context, *part);
}

Made make_split(KernelContext& context) {
  if (std::string reason = refusal_to_copy(context.in(0)); !reason.empty()) return refuse(reason);
  const core::Parts parts = core::parts_of_split(context);
  if (!parts.refusal.empty()) return refuse(parts.refusal);
  Bind all;
  for (std::size_t i = 0; i < parts.all.size(); ++i)
    if (context.has_output(i)) all = then(std::move(all), copy_out(context, i, parts.all[i]));
  return {"native", {}, std::move(all)};
}

Made make_row_major_concat(KernelContext& context) {
  if (std::string reason = refusal_to_copy(context.out(0)); !reason.empty()) return refuse(reason);
  const core::Parts parts = core::parts_of_concat(context);
  if (!parts.refusal.empty()) return refuse(parts.refusal);
  for (std::size_t i = 0; i < parts.all.size(); ++i)
    if (!context.layout(i).is_row_major()) return refuse("operands that are not row-major");
  std::vector<Operand> from;
  for (std::size_t i = 0; i < parts.all.size(); ++i) from.push_back(context.read(i, Layout()));
  const Operand to = context.write(0, Layout());
  Bind all;
  for (std::size_t i = 0; i < from.size(); ++i)
    all = then(std::move(all), bind_part_copy(to, from[i], parts.all[i], true));
  return {"native", {}, std::move(all)};
}

Made make_pad(KernelContext& context) {
  if (std::string reason = refusal_to_copy(context.in(0)); !reason.empty()) return refuse(reason);
  const core::Parts parts = core::part_of_pad(context);
  return parts.refusal.empty() ? fill_part(context, parts.all[0]) : refuse(parts.refusal);
}

}  // namespace halfstep::onednn
