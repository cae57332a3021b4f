// Operators that select or extend ranges of each axis: Split, Slice, Pad.
#include <algorithm>
#include <numeric>

#include "ops/family_parts.h"
#include "ops/movement/index_map.h"
#include "ops/onnx_row.h"
#include "ops/schemas.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

/// Extents of Split's parts where no operand gives them: as many equal ones, the last the smaller.
std::vector<std::int64_t> equal_parts(std::int64_t extent, std::int64_t parts) {
  std::vector<std::int64_t> sizes;
  const std::int64_t chunk = (extent + parts - 1) / parts;
  for (std::int64_t i = 0; i < parts; ++i) sizes.push_back(std::clamp(extent - i * chunk, std::int64_t{0}, chunk));
  return sizes;
}

void split(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  const std::size_t axis = normalize_axis(call.node.attributes.get_int("axis", 0), shape.rank());
  const auto parts = static_cast<std::int64_t>(call.out.size());
  const std::int64_t extent = shape[axis];
  const std::vector<std::int64_t> sizes = call.has_in(1) ? to_int64s(call.in[1]) : equal_parts(extent, parts);
  if (call.node.attributes.get_int("num_outputs", parts) != parts)
    throw_input_error("attribute num_outputs as the node has outputs: " + std::to_string(parts),
                      std::to_string(call.node.attributes.get_int("num_outputs", parts)), "check Split's num_outputs");
  if (static_cast<std::int64_t>(sizes.size()) != parts || std::ranges::any_of(sizes, [](auto n) { return n < 0; }) ||
      std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) != extent)
    throw_input_error(std::to_string(parts) + " sizes that add up to " + std::to_string(extent),
                      Shape(sizes).to_string(), "check Split's sizes");
  AxisIndices axes = all_indices(shape);
  std::int64_t start = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    axes[axis] = counting(sizes[i], start);
    if (call.has_out(i)) take_axes(call, i, axes);
    start += sizes[i];
  }
}

/// Elements that Slice selects along each axis of a tensor of shape `shape`; `operands` are starts, ends, axes?,
/// steps?.
AxisIndices sliced(const Shape& shape, std::span<const Tensor> operands) {
  auto given = [&](std::size_t i) {
    return i < operands.size() && operands[i].is_defined() ? to_int64s(operands[i]) : std::vector<std::int64_t>();
  };
  const std::vector<std::int64_t> starts = given(0), ends = given(1);
  std::vector<std::int64_t> axes = given(2), steps = given(3);
  if (axes.empty()) axes = counting(static_cast<std::int64_t>(starts.size()));
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    throw_input_error("starts, ends, axes and steps of the same length",
                      std::to_string(starts.size()) + ", " + std::to_string(ends.size()) + ", " +
                          std::to_string(axes.size()) + ", " + std::to_string(steps.size()),
                      "check Slice's operands");
  AxisIndices result = all_indices(shape);
  const std::vector<std::size_t> normal = normalize_axes(axes, shape.rank());
  for (std::size_t i = 0; i < normal.size(); ++i) {
    const std::int64_t extent = shape[normal[i]], step = steps[i];
    if (step == 0) throw_input_error("steps other than 0", "0", "check Slice's steps");
    std::vector<std::int64_t>& indices = result[normal[i]];
    indices.clear();
    if (extent == 0) continue;
    // Going forward the bounds are clamped to [0, extent]; backward the start to [0, extent - 1], the end to
    // [-1, extent - 1].
    auto bound = [&](std::int64_t at, std::int64_t low) {
      return std::max(low, std::min(step > 0 ? extent : extent - 1, at < 0 ? at + extent : at));
    };
    const std::int64_t start = bound(starts[i], 0), end = bound(ends[i], step > 0 ? 0 : -1);
    const std::int64_t distance = step > 0 ? end - start : start - end;
    // step may be the most negative int64, whose magnitude only fits unsigned.
    const std::uint64_t stride =
        step > 0 ? static_cast<std::uint64_t>(step) : std::uint64_t{0} - static_cast<std::uint64_t>(step);
    if (distance <= 0) continue;
    const std::uint64_t count = (static_cast<std::uint64_t>(distance) - 1) / stride + 1;
    for (std::uint64_t n = 0; n < count; ++n) indices.push_back(start + static_cast<std::int64_t>(n) * step);
  }
  return result;
}

void slice(KernelCall& call) { take_axes(call, 0, sliced(call.in[0].shape(), call.in.subspan(1))); }

void slice_grad(KernelCall& call) {
  const Shape shape(call.node.attributes.get_ints("input_shape"));
  const AxisIndices axes = sliced(shape, call.in.subspan(1));
  if (shape_of(axes) != call.in[0].shape())
    throw_input_error("a gradient of the slice's shape " + shape_of(axes).to_string(), call.in[0].shape().to_string(),
                      "check SliceGrad's operands");
  Tensor& out = ensure_out(call, 0, call.in[0].dtype(), shape);
  take(call.in[0], IndexMap(static_cast<std::size_t>(shape.count()), kNoElement), out);  // zeros
  put(call.in[0], separable_map(shape, axes), out);
}

/// Number of elements added before and after each axis; negative ones are removed.
struct Padding {
  std::vector<std::int64_t> before, after;

  Padding(const std::vector<std::int64_t>& pads, std::vector<std::int64_t> axes, std::size_t rank)
      : before(rank), after(rank) {
    if (axes.empty()) axes = counting(static_cast<std::int64_t>(rank));
    if (pads.size() != 2 * axes.size())
      throw_input_error("two pads for each of " + std::to_string(axes.size()) + " axes", std::to_string(pads.size()),
                        "check Pad's operands");
    const std::vector<std::size_t> normal = normalize_axes(axes, rank);
    for (std::size_t i = 0; i < normal.size(); ++i) {
      before[normal[i]] = pads[i];
      after[normal[i]] = pads[i + normal.size()];
    }
  }

  Shape padded(const Shape& shape, const std::string& mode) const {
    std::vector<std::int64_t> dims;
    for (std::size_t axis = 0; axis < shape.rank(); ++axis) dims.push_back(length(axis, shape[axis], mode));
    return Shape(std::move(dims));
  }

  bool touches(std::size_t axis) const { return before[axis] != 0 || after[axis] != 0; }

  /// For each element of the padded axis, the index of its element on an axis with `extent` elements.
  std::vector<std::int64_t> indices(std::size_t axis, std::int64_t extent, const std::string& mode) const {
    const std::int64_t count = length(axis, extent, mode);
    std::vector<std::int64_t> result = counting(count, -before[axis]);
    for (std::int64_t& i : result) i = source(i, extent, mode);
    return result;
  }

 private:
  std::int64_t length(std::size_t axis, std::int64_t extent, const std::string& mode) const {
    std::int64_t sum = 0;
    if (__builtin_add_overflow(before[axis], after[axis], &sum) || __builtin_add_overflow(sum, extent, &sum) ||
        sum < 0 || (extent == 0 && sum > 0 && mode != "constant"))
      throw_input_error("padding that leaves extents of at least 0, and elements to repeat",
                        "extent " + std::to_string(extent) + " with pads " + std::to_string(before[axis]) + " and " +
                            std::to_string(after[axis]),
                        "check Pad's pads");
    return sum;
  }

  static std::int64_t source(std::int64_t i, std::int64_t extent, const std::string& mode) {
    if (i >= 0 && i < extent) return i;
    auto modulo = [](std::int64_t a, std::int64_t n) { return (a % n + n) % n; };
    if (mode == "constant" || extent == 0) return kNoElement;
    if (mode == "edge") return std::clamp(i, std::int64_t{0}, extent - 1);
    if (mode == "wrap") return modulo(i, extent);
    if (mode != "reflect")
      throw_input_error("Pad's mode constant, edge, reflect or wrap", "'" + mode + "'", "check the node");
    if (extent == 1) return 0;
    const std::int64_t period = 2 * (extent - 1), at = modulo(i, period);
    return std::min(at, period - at);
  }
};

std::string pad_mode(const Node& node) { return node.attributes.get_string("mode", "constant"); }

/// Pad's fill value; undefined for zeros.
Tensor fill_of(const KernelCall& call) {
  if (!call.has_in(2)) return {};
  const Tensor &x = call.in[0], &fill = call.in[2];
  if (fill.count() != 1 || fill.dtype() != x.dtype())
    throw_input_error("one " + std::string(name_of(x.dtype())) + " to pad with",
                      std::string(name_of(fill.dtype())) + fill.shape().to_string(), "check Pad's constant_value");
  return fill;
}

void pad(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  const Padding padding(to_int64s(call.in[1]), call.has_in(3) ? to_int64s(call.in[3]) : std::vector<std::int64_t>(),
                        shape.rank());
  const std::string mode = pad_mode(call.node);
  const Tensor fill = fill_of(call);
  // Rejects results that exceed memory before allocating an index per element of an axis.
  if (ensure_out(call, 0, call.in[0].dtype(), padding.padded(shape, mode)).count() == 0) return;
  AxisIndices axes;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) axes.push_back(padding.indices(axis, shape[axis], mode));
  take_axes(call, 0, axes, fill);
}

Gradients split_gradient(GradientContext& g) {
  Shape shape = g.in(0).shape();
  const std::size_t axis = normalize_axis(g.node.attributes.get_int("axis", 0), shape.rank());
  const std::size_t count = g.node.outputs.size();
  std::vector<std::int64_t> sizes;  // of parts that are absent
  std::vector<Expr> parts;
  for (std::size_t i = 0; i < count; ++i) {
    if (g.dy(i)) {
      parts.push_back(g.dy(i));
      continue;
    }
    if (g.out(i)) {
      parts.push_back(g.b.zeros_like(g.out(i)));
      continue;
    }
    if (sizes.empty())
      sizes = g.in(1) ? constant_ints(g, 1) : equal_parts(shape[axis], static_cast<std::int64_t>(count));
    shape[axis] = sizes.at(i);
    parts.push_back(g.b.constant(Tensor(g.in(0).dtype(), shape)));
  }
  return {g.b.op("Concat", parts, {{"axis", g.node.attributes.get_int("axis", 0)}})};
}

Gradients slice_gradient(GradientContext& g) {
  return {
      g.b.own("SliceGrad", {g.dy(), g.in(1), g.in(2), g.in(3), g.in(4)}, {{"input_shape", g.in(0).shape().dims()}})};
}

Gradients pad_gradient(GradientContext& g) {
  const Shape shape = g.in(0).shape();
  const Padding padding(constant_ints(g, 1), g.in(3) ? constant_ints(g, 3) : std::vector<std::int64_t>(), shape.rank());
  if (pad_mode(g.node) == "constant") {
    std::vector<std::int64_t> back;
    for (std::int64_t n : padding.before) back.push_back(-n);
    for (std::int64_t n : padding.after) back.push_back(-n);
    const Expr dx = g.b.op("Pad", {g.dy(), g.b.ints(back)});
    if (!g.wants(2)) return {dx};
    auto total = [&](Expr x) { return g.b.op("ReduceSum", {x}, {{"keepdims", std::int64_t{0}}}); };
    return {dx, Expr(), g.b.reshape(total(g.dy()) - total(dx), g.in(2).shape())};
  }
  // The other modes repeat elements: padding an axis is a Gather along it.
  Expr dx = g.dy();
  for (std::size_t axis = shape.rank(); axis-- > 0;) {
    if (!padding.touches(axis)) continue;
    Shape narrowed = dx.shape();
    narrowed[axis] = shape[axis];
    dx = g.b.own("GatherGrad", {dx, g.b.ints(padding.indices(axis, shape[axis], pad_mode(g.node)))},
                 {{"axis", static_cast<std::int64_t>(axis)}, {"input_shape", narrowed.dims()}});
  }
  return {dx};
}

}  // namespace

std::vector<OpDef> slicing_rows() {
  using enum PrecisionClass;
  return {
      onnx_row("Split", neutral, {.movement = Movement::part}, split, split_gradient,
               {{"(float[2,6] x) => (float[2,2] a, float[2,4] b) <int64[2] s = {2, 4}>"
                 " { a, b = Split<axis=1>(x, s) }"},
                {"(float[5] x) => (float[3] a, float[2] b) { a, b = Split<num_outputs=2>(x) }"},
                {"(float[4,2] x) => (float[2,2] a, float[2,2] b) { a, b = Split<axis=-2, num_outputs=2>(x) }"},
                {"(float[6,2] x) => (float[3,2] b) <int64[3] s = {1, 3, 2}> { , b, c = Split(x, s) }"},
                {"(float[5] x) => (float[1] c) { , , c = Split<num_outputs=3>(x) }"}}),
      onnx_row("Slice", neutral, {.movement = Movement::part}, slice, slice_gradient,
               {{"(float[4,5] x) => (float[2,3] y) <int64[2] s = {1, 0}, int64[2] e = {3, 3}> { y = Slice(x, s, e) }"},
                {"(float[4,5] x) => (float[4,3] y) <int64[1] s = {-1}, int64[1] e = {-100}, int64[1] a = {1},"
                 " int64[1] t = {-2}> { y = Slice(x, s, e, a, t) }"},
                {"(float[5,2] x) => (float[1,2] y) <int64[1] s = {-100}, int64[1] e = {-1000}, int64[1] a = {0},"
                 " int64[1] t = {-1}> { y = Slice(x, s, e, a, t) }"},
                {"(float[4,5] x) => (float[4,1] y) <int32[1] s = {-1}, int32[1] e = {1000}, int32[1] a = {-1}>"
                 " { y = Slice(x, s, e, a) }"},
                {"(float[4,5] x) => (float[0,5] y) <int64[1] s = {3}, int64[1] e = {1}> { y = Slice(x, s, e) }"}}),
      onnx_row("Pad", neutral,
               {.operands = {OperandRole::data, OperandRole::setting, OperandRole::setting, OperandRole::setting}}, pad,
               pad_gradient,
               {{"(float[2,3] x) => (float[3,6] y) <int64[4] p = {1, 0, 0, 3}> { y = Pad(x, p) }"},
                {"(float[2,3] x, float c) => (float[2,4] y) <int64[2] p = {2, -1}, int64[1] a = {-1}>"
                 " { y = Pad(x, p, c, a) }"},
                {"(float[2,4] x) => (float[4,7] y) <int64[4] p = {1, 2, 1, 1}> { y = Pad<mode=\"reflect\">(x, p) }"},
                {"(float[2,4] x) => (float[4,7] y) <int64[4] p = {1, 2, 1, 1}> { y = Pad<mode=\"edge\">(x, p) }"},
                {"(float[2,4] x) => (float[4,7] y) <int64[4] p = {1, 2, 1, 1}> { y = Pad<mode=\"wrap\">(x, p) }"}}),
      {.name = "SliceGrad",
       .domain = kOwnDomain,
       .precision = neutral,
       .reference = slice_grad,
       .cases = {{"(float[2,3] dy) => (float[4,5] dx) <int64[2] s = {1, 0}, int64[2] e = {3, 3}>"
                  " { dx = ai.halfstep.SliceGrad<input_shape=[4,5]>(dy, s, e) }"},
                 {"(float[4,3] dy) => (float[4,5] dx) <int64[1] s = {-1}, int64[1] e = {-100}, int64[1] a = {1},"
                  " int64[1] t = {-2}> { dx = ai.halfstep.SliceGrad<input_shape=[4,5]>(dy, s, e, a, t) }"}},
       .schema = slice_grad_schema},
  };
}

}  // namespace halfstep::ops
