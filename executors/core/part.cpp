#include "executors/core/part.h"

#include <algorithm>

#include <halfstep/ops/kernel_util.h>

namespace halfstep::core {
namespace {

/// Whether all elements of the part are elements of `whole`.
bool lies_within(const Shape& whole, const Part& part) {
  for (std::size_t axis = 0; axis < whole.rank(); ++axis) {
    if (part.extents[axis] == 0) continue;
    const std::int64_t first = part.begin[axis], step = part.steps[axis];
    if (first < 0 || first >= whole[axis]) return false;
    const std::int64_t steps_left = step > 0 ? (whole[axis] - 1 - first) / step : -(first / step);
    if (part.extents[axis] - 1 > steps_left) return false;
  }
  return true;
}

/// Parts of these extents one behind the other along the node's axis; they are all of `whole`.
Parts in_a_row(const KernelContext& context, const Shape& whole, const std::vector<const Shape*>& shapes) {
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", 0), whole.rank());
  Parts parts;
  std::int64_t begin = 0;
  for (const Shape* shape : shapes) {
    Part part = whole_of(whole);
    if (shape->rank() == whole.rank()) part.extents[axis] = (*shape)[axis];
    if (*shape != Shape(part.extents)) return {.refusal = "parts of other extents"};
    part.begin[axis] = begin;
    begin += part.extents[axis];
    parts.all.push_back(std::move(part));
  }
  if (begin != whole[axis]) return {.refusal = "parts that are not all of it"};
  return parts;
}

}  // namespace

Part whole_of(const Shape& shape) { return {Dims(shape.rank(), 0), shape.dims(), Dims(shape.rank(), 1)}; }

std::optional<Part> part_of_slice(const KernelContext& context, const Shape& whole, const Shape& part) {
  const auto starts = context.constant_ints(1);
  const auto axes = context.has_input(3) ? context.constant_ints(3) : Dims();
  const auto steps = context.has_input(4) ? context.constant_ints(4) : Dims();
  if (!starts || !axes || !steps) return std::nullopt;
  const auto fits = [&](const Dims& each) { return each.empty() || each.size() == starts->size(); };
  if (part.rank() != whole.rank() || starts->size() > whole.rank() || !fits(*axes) || !fits(*steps))
    return std::nullopt;
  const std::vector<std::size_t> sliced = ops::normalize_axes(*axes, whole.rank());
  Part result = whole_of(part);
  for (std::size_t i = 0; i < starts->size(); ++i) {
    const std::size_t axis = sliced.empty() ? i : sliced[i];
    const std::int64_t step = steps->empty() ? 1 : (*steps)[i];
    if (step == 0 || (step < 0 && whole[axis] == 0)) return std::nullopt;
    std::int64_t start = (*starts)[i];
    if (start < 0) start += whole[axis];
    result.begin[axis] = std::clamp<std::int64_t>(start, 0, step < 0 ? whole[axis] - 1 : whole[axis]);
    result.steps[axis] = step;
  }
  // Ends that are computed leave the extents open.
  if (!lies_within(whole, result)) return std::nullopt;
  return result;
}

Parts parts_of_split(const KernelContext& context) {
  const auto& outputs = context.node().outputs;
  const auto count = static_cast<std::int64_t>(outputs.size());
  if (context.node().attributes.get_int("num_outputs", count) != count)
    return {.refusal = "other parts than num_outputs"};
  std::vector<const Shape*> shapes;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == kNoValue) return {.refusal = "a part that nobody names"};
    shapes.push_back(&context.out(i).shape);
  }
  return in_a_row(context, context.in(0).shape, shapes);
}

Parts parts_of_concat(const KernelContext& context) {
  std::vector<const Shape*> shapes;
  for (std::size_t i = 0; i < context.node().inputs.size(); ++i) {
    if (!context.has_input(i)) return {.refusal = "a part that nobody names"};
    shapes.push_back(&context.in(i).shape);
  }
  return in_a_row(context, context.out(0).shape, shapes);
}

Parts part_of_pad(const KernelContext& context) {
  const Shape& x = context.in(0).shape;
  const auto pads = context.constant_ints(1);
  const auto axes = context.has_input(3) ? context.constant_ints(3) : Dims();
  if (!pads || !axes || context.node().attributes.get_string("mode", "constant") != "constant")
    return {.refusal = "pads that are computed, or not constant"};
  if (context.has_input(2) && context.constant_scalar(2) != 0) return {.refusal = "padding with another value than 0"};
  if (std::ranges::any_of(*pads, [](std::int64_t p) { return p < 0; })) return {.refusal = "negative pads"};
  const std::vector<std::size_t> padded = ops::normalize_axes(*axes, x.rank());
  Part part = whole_of(x);
  const std::size_t count = padded.empty() ? x.rank() : padded.size();
  for (std::size_t i = 0; i < count; ++i) part.begin[padded.empty() ? i : padded[i]] = (*pads)[i];
  return {.all = {std::move(part)}};
}

}  // namespace halfstep::core
