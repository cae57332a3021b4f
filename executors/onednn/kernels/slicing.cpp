// Operators that copy a part of a tensor, or into a part: Slice and its gradient, Split, row-major Concat, Pad.
#include <algorithm>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/reorder.h"
#include "executors/onednn/simd/strided_copy.h"
#include "ops/movement/part.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::onednn {
namespace {

/// The part of a tensor that a node reads or writes.
struct Part {
  Dims begin, extents, steps;

  bool is_dense() const {
    return std::all_of(steps.begin(), steps.end(), [](std::int64_t step) { return step == 1; });
  }
};

Part whole_of(const Shape& shape) {
  const Dims dims(shape.begin(), shape.end());
  return {Dims(dims.size(), 0), dims, Dims(dims.size(), 1)};
}

/// Slice's operands from input 1 on; empty unless they are constants and every step is positive.
std::optional<Part> part_of_slice(KernelContext& context, const Shape& whole, const Shape& part) {
  const auto starts = context.constant_ints(1);
  const auto axes = context.has_input(3) ? context.constant_ints(3) : std::vector<std::int64_t>();
  const auto steps = context.has_input(4) ? context.constant_ints(4) : std::vector<std::int64_t>();
  if (!starts || !axes || !steps) return std::nullopt;
  if (part.rank() != whole.rank() || !ops::are_slice_operands(whole.rank(), *starts, *axes, *steps))
    return std::nullopt;
  const std::vector<std::size_t> sliced = ops::normalize_axes(*axes, whole.rank());
  Part result = whole_of(part);
  for (std::size_t i = 0; i < starts->size(); ++i) {
    const std::size_t axis = sliced.empty() ? i : sliced[i];
    const std::int64_t step = steps->empty() ? 1 : (*steps)[i];
    if (step <= 0) return std::nullopt;
    std::int64_t start = (*starts)[i];
    if (start < 0) start += whole[axis];
    result.begin[axis] = std::clamp<std::int64_t>(start, 0, whole[axis]);
    result.steps[axis] = step;
  }
  // Ends that are computed leave the extents open.
  if (!ops::lies_within(whole, result.begin, result.extents, result.steps)) return std::nullopt;
  return result;
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
  if (layout.is_row_major() || layout.dims().size() != whole.rank() || !part.is_dense()) return std::nullopt;
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
  const auto part = part_of_slice(context, context.in(0).shape, context.out(0).shape);
  if (!part) return refuse("a slice that is computed, or runs backwards");
  return {"native", {}, copy_out(context, 0, *part)};
}

Made make_slice_grad(KernelContext& context) {
  if (std::string reason = refusal_to_copy(context.in(0)); !reason.empty()) return refuse(reason);
  const auto part = part_of_slice(context, context.out(0).shape, context.in(0).shape);
  if (!part) return refuse("a slice that is computed, or runs backwards");
  return fill_part(context, *part);
}

Made make_split(KernelContext& context) {
  const Value& x = context.in(0);
  if (std::string reason = refusal_to_copy(x); !reason.empty()) return refuse(reason);
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", 0), x.shape.rank());
  const auto parts = static_cast<std::int64_t>(context.node().outputs.size());
  if (context.node().attributes.get_int("num_outputs", parts) != parts) return refuse("other parts than num_outputs");
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < context.node().outputs.size(); ++i) {
    if (context.node().output(i) == kNoValue) return refuse("a part that nobody names");
    sum += context.out(i).shape[axis];
  }
  if (sum != x.shape[axis]) return refuse("parts that are not all of it");
  Bind all;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < context.node().outputs.size(); ++i) {
    Part part = whole_of(context.out(i).shape);
    part.begin[axis] = begin;
    begin += part.extents[axis];
    if (!context.has_output(i)) continue;
    Bind one = copy_out(context, i, part);
    all = all ? in_sequence(std::move(all), std::move(one)) : std::move(one);
  }
  return {"native", {}, std::move(all)};
}

Made make_row_major_concat(KernelContext& context) {
  const Value& y = context.out(0);
  if (std::string reason = refusal_to_copy(y); !reason.empty()) return refuse(reason);
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", 0), y.shape.rank());
  const std::size_t parts = context.node().inputs.size();
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < parts; ++i) {
    if (!context.has_input(i)) return refuse("a part that nobody names");
    if (!context.layout(i).is_row_major()) return refuse("operands that are not row-major");
    Dims part(y.shape.begin(), y.shape.end());
    if (context.in(i).shape.rank() == part.size()) part[axis] = context.in(i).shape[axis];
    if (context.in(i).shape != Shape(part)) return refuse("parts of other extents");
    sum += part[axis];
  }
  if (sum != y.shape[axis]) return refuse("parts that are not all of it");
  std::vector<Operand> from;
  for (std::size_t i = 0; i < parts; ++i) from.push_back(context.read(i, Layout()));
  const Operand to = context.write(0, Layout());
  Bind all;
  std::int64_t begin = 0;
  for (const Operand& operand : from) {
    Part part = whole_of(operand.shape);
    part.begin[axis] = begin;
    begin += part.extents[axis];
    Bind one = bind_part_copy(to, operand, part, true);
    all = all ? in_sequence(std::move(all), std::move(one)) : std::move(one);
  }
  return {"native", {}, std::move(all)};
}

Made make_pad(KernelContext& context) {
  const Shape &x = context.in(0).shape, &y = context.out(0).shape;
  const auto pads = context.constant_ints(1);
  const auto axes = context.has_input(3) ? context.constant_ints(3) : std::vector<std::int64_t>();
  if (!pads || !axes || context.node().attributes.get_string("mode", "constant") != "constant")
    return refuse("pads that are computed, or not constant");
  if (context.has_input(2) && context.constant_scalar(2) != 0) return refuse("padding with another value than 0");
  if (std::string reason = refusal_to_copy(context.in(0)); !reason.empty()) return refuse(reason);
  if (std::any_of(pads->begin(), pads->end(), [](std::int64_t p) { return p < 0; })) return refuse("negative pads");
  const std::vector<std::size_t> padded = ops::normalize_axes(*axes, x.rank());
  Part part = whole_of(x);
  const std::size_t count = padded.empty() ? y.rank() : padded.size();
  for (std::size_t i = 0; i < count; ++i) part.begin[padded.empty() ? i : padded[i]] = (*pads)[i];
  return fill_part(context, part);
}

}  // namespace halfstep::onednn
