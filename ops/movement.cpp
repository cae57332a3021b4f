// Operators that move elements to places known from shapes and constant operands: Transpose, Slice, Concat, Pad, …
#include <algorithm>
#include <numeric>

#include "ops/index_map.h"
#include "ops/kernel_util.h"
#include "ops/scatter_schema.h"
#include "ops/shape_rows.h"

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;
using AxisIndices = std::vector<std::vector<std::int64_t>>;

std::vector<std::int64_t> first_n(std::int64_t n, std::int64_t start = 0) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
  std::iota(indices.begin(), indices.end(), start);
  return indices;
}

/// Every element along every axis: the identity, to be changed axis by axis.
AxisIndices all_indices(const Shape& shape) {
  AxisIndices axes;
  for (std::int64_t extent : shape) axes.push_back(first_n(extent));
  return axes;
}

Shape shape_of(const AxisIndices& axes) {
  std::vector<std::int64_t> dims;
  for (const auto& indices : axes) dims.push_back(static_cast<std::int64_t>(indices.size()));
  return Shape(std::move(dims));
}

void take_axes(KernelCall& call, std::size_t output, const AxisIndices& axes, const Tensor& fill = {}) {
  const Tensor& x = call.in[0];
  take(x, separable_map(x.shape(), axes), ensure_out(call, output, x.dtype(), shape_of(axes)), fill);
}

std::vector<std::size_t> permutation(const Node& node, std::size_t rank) {
  const std::vector<std::int64_t> given = node.attributes.get_ints("perm");
  if (!given.empty()) {
    if (given.size() != rank)
      throw_input_error("Transpose's perm with " + std::to_string(rank) + " axes", std::to_string(given.size()),
                        "check the node '" + node.name + "'");
    return normalize_axes(given, rank);
  }
  std::vector<std::size_t> reversed(rank);
  std::iota(reversed.rbegin(), reversed.rend(), std::size_t{0});
  return reversed;
}

void transpose(KernelCall& call) {
  const Tensor& x = call.in[0];
  const std::vector<std::size_t> perm = permutation(call.node, x.shape().rank());
  std::vector<std::int64_t> dims;
  for (std::size_t axis : perm) dims.push_back(x.shape()[axis]);
  take(x, transpose_map(x.shape(), perm), ensure_out(call, 0, x.dtype(), Shape(std::move(dims))));
}

void concat(KernelCall& call) {
  Shape shape = call.in[0].shape();
  const std::size_t axis = normalize_axis(call.node.attributes.get_int("axis", 0), shape.rank());
  shape[axis] = 0;
  for (const Tensor& x : call.in) {
    Shape rest = x.shape();
    if (rest.rank() == shape.rank()) rest[axis] = shape[axis];
    if (rest != shape)
      throw_input_error("tensors that differ along axis " + std::to_string(axis) + " only",
                        call.in[0].shape().to_string() + " and " + x.shape().to_string(),
                        "check the shapes fed to Concat");
    shape[axis] += x.shape()[axis];
  }
  Tensor& out = ensure_out(call, 0, call.in[0].dtype(), shape);
  const std::vector<std::int64_t> strides = shape.strides();
  std::int64_t start = 0;
  for (const Tensor& x : call.in) {
    put(x, strided_map(x.shape(), strides, start * strides[axis]), out);
    start += x.shape()[axis];
  }
}

void split(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  const std::size_t axis = normalize_axis(call.node.attributes.get_int("axis", 0), shape.rank());
  const auto parts = static_cast<std::int64_t>(call.out.size());
  const std::int64_t extent = shape[axis], chunk = (extent + parts - 1) / parts;
  std::vector<std::int64_t> sizes;
  if (call.has_in(1))
    sizes = to_int64s(call.in[1]);
  else
    for (std::int64_t i = 0; i < parts; ++i) sizes.push_back(std::clamp(extent - i * chunk, std::int64_t{0}, chunk));
  if (static_cast<std::int64_t>(sizes.size()) != parts || std::ranges::any_of(sizes, [](auto n) { return n < 0; }) ||
      std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) != extent)
    throw_input_error(std::to_string(parts) + " sizes that add up to " + std::to_string(extent),
                      Shape(sizes).to_string(), "check Split's sizes");
  AxisIndices axes = all_indices(shape);
  std::int64_t start = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    axes[axis] = first_n(sizes[i], start);
    if (call.has_out(i)) take_axes(call, i, axes);
    start += sizes[i];
  }
}

/// Elements of a tensor of shape `shape` that Slice takes along each axis; `operands` are starts, ends, axes?, steps?.
AxisIndices sliced(const Shape& shape, std::span<const Tensor> operands) {
  auto given = [&](std::size_t i) {
    return i < operands.size() && operands[i].is_defined() ? to_int64s(operands[i]) : std::vector<std::int64_t>();
  };
  const std::vector<std::int64_t> starts = given(0), ends = given(1);
  std::vector<std::int64_t> axes = given(2), steps = given(3);
  if (axes.empty()) axes = first_n(static_cast<std::int64_t>(starts.size()));
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
    // Going forward the bounds are clamped to [0, extent], backward to [-1, extent - 1].
    const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? extent : extent - 1;
    auto bound = [&](std::int64_t at) { return std::max(low, std::min(high, at < 0 ? at + extent : at)); };
    const std::int64_t start = bound(starts[i]), end = bound(ends[i]);
    std::vector<std::int64_t>& indices = result[normal[i]];
    indices.clear();
    const std::int64_t distance = step > 0 ? end - start : start - end;
    // step may be the most negative int64: its magnitude only fits unsigned.
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

void expand(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Shape shape = broadcast(x.shape(), Shape(to_int64s(call.in[1])));
  const BroadcastOffsets offset(x.shape(), shape);
  IndexMap map(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < map.size(); ++i) map[i] = offset(static_cast<std::int64_t>(i));
  take(x, map, ensure_out(call, 0, x.dtype(), shape));
}

void tile(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  const std::vector<std::int64_t> repeats = to_int64s(call.in[1]);
  if (repeats.size() != shape.rank() || std::ranges::any_of(repeats, [](auto n) { return n < 0; }))
    throw_input_error("a repeat of at least 0 for each axis of " + shape.to_string(), Shape(repeats).to_string(),
                      "check Tile's repeats");
  AxisIndices axes(shape.rank());
  for (std::size_t axis = 0; axis < axes.size(); ++axis)
    for (std::int64_t i = 0; i < repeats[axis] * shape[axis]; ++i) axes[axis].push_back(i % shape[axis]);
  take_axes(call, 0, axes);
}

/// Elements added before and after each axis; negative ones are removed.
struct Padding {
  std::vector<std::int64_t> before, after;

  Padding(const std::vector<std::int64_t>& pads, std::vector<std::int64_t> axes, std::size_t rank)
      : before(rank), after(rank) {
    if (axes.empty()) axes = first_n(static_cast<std::int64_t>(rank));
    if (pads.size() != 2 * axes.size())
      throw_input_error("two pads for each of " + std::to_string(axes.size()) + " axes", std::to_string(pads.size()),
                        "check Pad's operands");
    const std::vector<std::size_t> normal = normalize_axes(axes, rank);
    for (std::size_t i = 0; i < normal.size(); ++i) {
      before[normal[i]] = pads[i];
      after[normal[i]] = pads[i + normal.size()];
    }
  }

  bool touches(std::size_t axis) const { return before[axis] != 0 || after[axis] != 0; }

  /// The element of an axis with `extent` elements that each element of the padded axis is.
  std::vector<std::int64_t> indices(std::size_t axis, std::int64_t extent, const std::string& mode) const {
    const std::int64_t length = extent + before[axis] + after[axis];
    if (length < 0 || (extent == 0 && length > 0 && mode != "constant"))
      throw_input_error("padding that leaves extents of at least 0, and elements to repeat",
                        "extent " + std::to_string(extent) + " padded to " + std::to_string(length),
                        "check Pad's pads");
    std::vector<std::int64_t> result = first_n(length, -before[axis]);
    for (std::int64_t& i : result) i = source(i, extent, mode);
    return result;
  }

 private:
  static std::int64_t source(std::int64_t i, std::int64_t extent, const std::string& mode) {
    if (i >= 0 && i < extent) return i;
    auto modulo = [](std::int64_t a, std::int64_t n) { return (a % n + n) % n; };
    if (mode == "constant") return kNoElement;
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

void pad(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  const Padding padding(to_int64s(call.in[1]), call.has_in(3) ? to_int64s(call.in[3]) : std::vector<std::int64_t>(),
                        shape.rank());
  AxisIndices axes;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis)
    axes.push_back(padding.indices(axis, shape[axis], pad_mode(call.node)));
  take_axes(call, 0, axes, call.has_in(2) ? call.in[2] : Tensor());
}

void trilu(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Shape& shape = x.shape();
  if (shape.rank() < 2) throw_input_error("a tensor of rank 2 or more", shape.to_string(), "check Trilu's operand");
  const std::int64_t k = call.has_in(1) ? single_int(call.in[1], "Trilu's k") : 0;
  const bool upper = call.node.attributes.get_int("upper", 1) != 0;
  const std::int64_t rows = shape.dim(-2), columns = shape.dim(-1);
  IndexMap map = first_n(x.count());
  for (std::int64_t& i : map) {
    const std::int64_t above = i % columns - i / columns % rows;  // diagonals above the main one
    if (upper ? above < k : above > k) i = kNoElement;
  }
  take(x, map, ensure_out(call, 0, x.dtype(), shape));
}

/// Extents of an image [N, C, H, W] and the block of DepthToSpace and SpaceToDepth.
struct Blocks {
  std::int64_t n, c, h, w, size;
  bool depth_first;  ///< DCR: the block's position is the slower part of the channel number

  explicit Blocks(const KernelCall& call) {
    const Shape& shape = call.in[0].shape();
    size = call.node.attributes.get_int("blocksize", 0);
    depth_first = call.node.attributes.get_string("mode", "DCR") == "DCR";
    if (shape.rank() != 4 || size < 1)
      throw_input_error("an image [N, C, H, W] and a blocksize of at least 1",
                        shape.to_string() + " and " + std::to_string(size), "check the operand of " + call.node.op);
    n = shape[0], c = shape[1], h = shape[2], w = shape[3];
  }
  static void require_multiple(std::int64_t extent, std::int64_t of) {
    if (extent % of != 0)
      throw_input_error("an extent that is a multiple of " + std::to_string(of), std::to_string(extent),
                        "check the blocksize");
  }
};

void depth_to_space(KernelCall& call) {
  const Blocks b(call);
  Blocks::require_multiple(b.c, b.size * b.size);
  const std::int64_t depth = b.c / (b.size * b.size);
  const IndexMap map = b.depth_first ? transpose_map({b.n, b.size, b.size, depth, b.h, b.w}, {0, 3, 4, 1, 5, 2})
                                     : transpose_map({b.n, depth, b.size, b.size, b.h, b.w}, {0, 1, 4, 2, 5, 3});
  take(call.in[0], map, ensure_out(call, 0, call.in[0].dtype(), {b.n, depth, b.h * b.size, b.w * b.size}));
}

void space_to_depth(KernelCall& call) {
  const Blocks b(call);
  Blocks::require_multiple(b.h, b.size);
  Blocks::require_multiple(b.w, b.size);
  const std::int64_t h = b.h / b.size, w = b.w / b.size;
  const std::vector<std::size_t> perm =
      b.depth_first ? std::vector<std::size_t>{0, 3, 5, 1, 2, 4} : std::vector<std::size_t>{0, 1, 3, 5, 2, 4};
  take(call.in[0], transpose_map({b.n, b.c, h, b.size, w, b.size}, perm),
       ensure_out(call, 0, call.in[0].dtype(), {b.n, b.c * b.size * b.size, h, w}));
}

Gradients transpose_gradient(GradientContext& g) {
  const std::vector<std::size_t> perm = permutation(g.node, g.in(0).rank());
  std::vector<std::int64_t> inverse(perm.size());
  for (std::size_t i = 0; i < perm.size(); ++i) inverse[perm[i]] = static_cast<std::int64_t>(i);
  return {g.b.transpose(g.dy(), inverse)};
}

Gradients concat_gradient(GradientContext& g) {
  const std::int64_t axis = g.node.attributes.get_int("axis", 0);
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 0; i < g.node.inputs.size(); ++i) sizes.push_back(g.in(i).shape().dim(axis));
  return g.b.multi("Split", kOnnxDomain, {g.dy(), g.b.ints(sizes)}, sizes.size(), {{"axis", axis}});
}

Gradients split_gradient(GradientContext& g) {
  std::vector<Expr> parts;
  for (std::size_t i = 0; i < g.node.outputs.size(); ++i) parts.push_back(g.dy(i) ? g.dy(i) : g.b.zeros_like(g.out(i)));
  return {g.b.op("Concat", parts, {{"axis", g.node.attributes.get_int("axis", 0)}})};
}

Gradients slice_gradient(GradientContext& g) {
  return {
      g.b.own("SliceGrad", {g.dy(), g.in(1), g.in(2), g.in(3), g.in(4)}, {{"input_shape", g.in(0).shape().dims()}})};
}

Gradients expand_gradient(GradientContext& g) { return {g.dy()}; }

Gradients tile_gradient(GradientContext& g) {
  const Shape &from = g.in(0).shape(), &to = g.dy().shape();
  if (to.count() == 0) return {g.b.zeros_like(g.in(0))};
  std::vector<std::int64_t> dims, repeated;
  for (std::size_t axis = 0; axis < from.rank(); ++axis) {
    repeated.push_back(static_cast<std::int64_t>(dims.size()));
    dims.insert(dims.end(), {to[axis] / from[axis], from[axis]});
  }
  if (repeated.empty()) return {g.dy()};
  return {g.b.reduce_sum(g.b.reshape(g.dy(), Shape(std::move(dims))), repeated, /*keep_dims=*/false)};
}

Gradients pad_gradient(GradientContext& g) {
  const Shape& shape = g.in(0).shape();
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

Gradients trilu_gradient(GradientContext& g) { return {g.b.op("Trilu", {g.dy(), g.in(1)}, g.node.attributes)}; }
Gradients depth_to_space_gradient(GradientContext& g) { return {g.b.op("SpaceToDepth", {g.dy()}, g.node.attributes)}; }
Gradients space_to_depth_gradient(GradientContext& g) { return {g.b.op("DepthToSpace", {g.dy()}, g.node.attributes)}; }

}  // namespace

std::vector<OpDef> movement_rows() {
  using enum PrecisionClass;
  return {
      {.name = "Transpose",
       .precision = neutral,
       .reference = transpose,
       .gradient = transpose_gradient,
       .cases = {{"(float[2,3,4] x) => (float[4,3,2] y) { y = Transpose(x) }"},
                 {"(float[2,3,4] x) => (float[3,4,2] y) { y = Transpose<perm=[1,2,0]>(x) }"},
                 {"(float x) => (float y) { y = Transpose(x) }"},
                 {"(float[0,3] x) => (float[3,0] y) { y = Transpose(x) }"}}},
      {.name = "Concat",
       .precision = neutral,
       .reference = concat,
       .gradient = concat_gradient,
       .cases = {{"(float[2,3] a, float[2,1] b) => (float[2,4] y) { y = Concat<axis=-1>(a, b) }"},
                 {"(float[2,3] a, float[1,3] b, float[0,3] c) => (float[3,3] y) { y = Concat<axis=0>(a, b, c) }"},
                 {"(float[3] a) => (float[6] y) { y = Concat<axis=0>(a, a) }"},
                 {"() => (int64[3] y) <int64[2] a = {1, 2}, int64[1] b = {7}> { y = Concat<axis=0>(a, b) }"}}},
      {.name = "Split",
       .precision = neutral,
       .reference = split,
       .gradient = split_gradient,
       .cases = {{"(float[2,6] x) => (float[2,2] a, float[2,4] b) <int64[2] s = {2, 4}>"
                  " { a, b = Split<axis=1>(x, s) }"},
                 {"(float[5] x) => (float[3] a, float[2] b) { a, b = Split<num_outputs=2>(x) }"},
                 {"(float[4,2] x) => (float[2,2] a, float[2,2] b) { a, b = Split<axis=-2, num_outputs=2>(x) }"}}},
      {.name = "Slice",
       .precision = neutral,
       .reference = slice,
       .gradient = slice_gradient,
       .cases = {{"(float[4,5] x) => (float[2,3] y) <int64[2] s = {1, 0}, int64[2] e = {3, 3}> { y = Slice(x, s, e) }"},
                 {"(float[4,5] x) => (float[4,3] y) <int64[1] s = {-1}, int64[1] e = {-100}, int64[1] a = {1},"
                  " int64[1] t = {-2}> { y = Slice(x, s, e, a, t) }"},
                 {"(float[4,5] x) => (float[4,1] y) <int32[1] s = {-1}, int32[1] e = {1000}, int32[1] a = {-1}>"
                  " { y = Slice(x, s, e, a) }"},
                 {"(float[4,5] x) => (float[0,5] y) <int64[1] s = {3}, int64[1] e = {1}> { y = Slice(x, s, e) }"}}},
      {.name = "Expand",
       .precision = neutral,
       .reference = expand,
       .gradient = expand_gradient,
       .cases = {{"(float[3,1] x) => (float[2,3,4] y) <int64[3] s = {2, 1, 4}> { y = Expand(x, s) }"},
                 {"(float x) => (float[3] y) <int64[1] s = {3}> { y = Expand(x, s) }"},
                 {"(float[2,3] x) => (float[2,3] y) <int64[1] s = {1}> { y = Expand(x, s) }"}}},
      {.name = "Tile",
       .precision = neutral,
       .reference = tile,
       .gradient = tile_gradient,
       .cases = {{"(float[2,3] x) => (float[4,9] y) <int64[2] r = {2, 3}> { y = Tile(x, r) }"},
                 {"(float[3] x) => (float[3] y) <int64[1] r = {1}> { y = Tile(x, r) }"},
                 {"() => (int32[4] y) <int32[2] x = {1, 2}, int64[1] r = {2}> { y = Tile(x, r) }"}}},
      {.name = "Pad",
       .precision = neutral,
       .reference = pad,
       .gradient = pad_gradient,
       .cases = {{"(float[2,3] x) => (float[3,6] y) <int64[4] p = {1, 0, 0, 3}> { y = Pad(x, p) }"},
                 {"(float[2,3] x, float c) => (float[2,4] y) <int64[2] p = {2, -1}, int64[1] a = {-1}>"
                  " { y = Pad(x, p, c, a) }"},
                 {"(float[2,4] x) => (float[4,7] y) <int64[4] p = {1, 2, 1, 1}> { y = Pad<mode=\"reflect\">(x, p) }"},
                 {"(float[2,4] x) => (float[4,7] y) <int64[4] p = {1, 2, 1, 1}> { y = Pad<mode=\"edge\">(x, p) }"},
                 {"(float[2,4] x) => (float[4,7] y) <int64[4] p = {1, 2, 1, 1}> { y = Pad<mode=\"wrap\">(x, p) }"}}},
      {.name = "Trilu",
       .precision = neutral,
       .reference = trilu,
       .gradient = trilu_gradient,
       .cases = {{"(float[2,3,4] x) => (float[2,3,4] y) { y = Trilu(x) }"},
                 {"(float[3,4] x) => (float[3,4] y) <int64 k = {-1}> { y = Trilu<upper=0>(x, k) }"},
                 {"(float[3,4] x) => (float[3,4] y) <int64 k = {2}> { y = Trilu(x, k) }"}}},
      {.name = "DepthToSpace",
       .precision = neutral,
       .reference = depth_to_space,
       .gradient = depth_to_space_gradient,
       .cases = {{"(float[1,8,2,3] x) => (float[1,2,4,6] y) { y = DepthToSpace<blocksize=2>(x) }"},
                 {"(float[1,8,2,3] x) => (float[1,2,4,6] y) { y = DepthToSpace<blocksize=2, mode=\"CRD\">(x) }"}}},
      {.name = "SpaceToDepth",
       .precision = neutral,
       .reference = space_to_depth,
       .gradient = space_to_depth_gradient,
       .cases = {{"(float[1,2,4,6] x) => (float[1,8,2,3] y) { y = SpaceToDepth<blocksize=2>(x) }"},
                 {"(float[1,2,4,6] x) => (float[1,8,2,3] y) { y = SpaceToDepth<blocksize=2, mode=\"CRD\">(x) }"}}},
      {.name = "SliceGrad",
       .domain = kOwnDomain,
       .precision = neutral,
       .reference = slice_grad,
       .cases = {{"(float[2,3] dy) => (float[4,5] dx) <int64[2] s = {1, 0}, int64[2] e = {3, 3}>"
                  " { dx = ai.halfstep.SliceGrad<input_shape=[4,5]>(dy, s, e) }",
                  -2, 2, false},
                 {"(float[4,3] dy) => (float[4,5] dx) <int64[1] s = {-1}, int64[1] e = {-100}, int64[1] a = {1},"
                  " int64[1] t = {-2}> { dx = ai.halfstep.SliceGrad<input_shape=[4,5]>(dy, s, e, a, t) }",
                  -2, 2, false}},
       .schema = slice_grad_schema},
  };
}

}  // namespace halfstep::ops
