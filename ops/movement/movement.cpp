// Operators that move or repeat whole axes: Transpose, Concat, Expand, Tile, DepthToSpace, ReverseSequence.
#include <algorithm>
#include <numeric>

#include "ops/family_parts.h"
#include "ops/movement/index_map.h"
#include "ops/onnx_row.h"
#include "ops/written_out.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Gradients = std::vector<Expr>;

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

void expand(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Shape shape = broadcast(x.shape(), Shape(to_int64s(call.in[1])));
  Tensor& out = ensure_out(call, 0, x.dtype(), shape);
  const BroadcastOffsets offset(x.shape(), shape);
  IndexMap map(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < map.size(); ++i) map[i] = offset(static_cast<std::int64_t>(i));
  take(x, map, out);
}

void tile(KernelCall& call) {
  const Shape& shape = call.in[0].shape();
  const std::vector<std::int64_t> repeats = to_int64s(call.in[1]);
  if (repeats.size() != shape.rank() || std::ranges::any_of(repeats, [](auto n) { return n < 0; }))
    throw_input_error("a repeat of at least 0 for each axis of " + shape.to_string(), Shape(repeats).to_string(),
                      "check Tile's repeats");
  std::vector<std::int64_t> dims;
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) dims.push_back(Shape{repeats[axis], shape[axis]}.count());
  // Rejects results that exceed memory before allocating an index per element of an axis.
  if (ensure_out(call, 0, call.in[0].dtype(), Shape(dims)).count() == 0) return;
  AxisIndices axes(shape.rank());
  for (std::size_t axis = 0; axis < axes.size(); ++axis)
    for (std::int64_t i = 0; i < dims[axis]; ++i) axes[axis].push_back(i % shape[axis]);
  take_axes(call, 0, axes);
}

void trilu(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Shape& shape = x.shape();
  if (shape.rank() < 2) throw_input_error("a tensor of rank 2 or more", shape.to_string(), "check Trilu's operand");
  const std::int64_t k = call.has_in(1) ? single_int(call.in[1], "Trilu's k") : 0;
  const bool upper = call.node.attributes.get_int("upper", 1) != 0;
  const std::int64_t rows = shape.dim(-2), columns = shape.dim(-1);
  IndexMap map = counting(x.count());
  for (std::int64_t& i : map) {
    const std::int64_t above = i % columns - i / columns % rows;  // diagonals above the main one
    if (upper ? above < k : above > k) i = kNoElement;
  }
  take(x, map, ensure_out(call, 0, x.dtype(), shape));
}

/// Extents of an image [N, C, H, W] and the block size of DepthToSpace and SpaceToDepth.
struct Blocks {
  std::int64_t n, c, h, w, size;
  bool depth_first;  ///< DCR: the position in the block is the major part of the channel number

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

void reverse_sequence(KernelCall& call) {
  const Tensor& x = call.in[0];
  const Shape& shape = x.shape();
  const std::size_t time = normalize_axis(call.node.attributes.get_int("time_axis", 0), shape.rank());
  const std::size_t batch = normalize_axis(call.node.attributes.get_int("batch_axis", 1), shape.rank());
  const std::vector<std::int64_t> lengths = to_int64s(call.in[1]);
  if (time == batch || static_cast<std::int64_t>(lengths.size()) != shape[batch] ||
      std::ranges::any_of(lengths, [&](auto n) { return n < 0 || n > shape[time]; }))
    throw_input_error("two axes, and a length of each sequence in [0, " + std::to_string(shape[time]) + "]",
                      "axes " + std::to_string(time) + " and " + std::to_string(batch) + " of " + shape.to_string() +
                          ", " + std::to_string(lengths.size()) + " lengths",
                      "check the operands of ReverseSequence");
  const std::vector<std::int64_t> strides = shape.strides();
  IndexMap map = counting(x.count());
  for (std::int64_t& i : map) {
    const std::int64_t t = i / strides[time] % shape[time];
    const std::int64_t length = lengths[i / strides[batch] % shape[batch]];
    if (t < length) i += (length - 1 - 2 * t) * strides[time];
  }
  take(x, map, ensure_out(call, 0, x.dtype(), shape));
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

Gradients expand_gradient(GradientContext& g) { return {g.dy()}; }

Gradients tile_gradient(GradientContext& g) {
  const Shape from = g.in(0).shape(), to = g.dy().shape();
  if (to.count() == 0) return {g.b.zeros_like(g.in(0))};
  std::vector<std::int64_t> dims, repeated;
  for (std::size_t axis = 0; axis < from.rank(); ++axis) {
    repeated.push_back(static_cast<std::int64_t>(dims.size()));
    dims.insert(dims.end(), {to[axis] / from[axis], from[axis]});
  }
  if (repeated.empty()) return {g.dy()};
  return {g.b.reduce_sum(g.b.reshape(g.dy(), Shape(std::move(dims))), repeated, /*keep_dims=*/false)};
}

Gradients trilu_gradient(GradientContext& g) { return {g.b.op("Trilu", {g.dy(), g.in(1)}, g.node.attributes)}; }
Gradients depth_to_space_gradient(GradientContext& g) { return {g.b.op("SpaceToDepth", {g.dy()}, g.node.attributes)}; }
Gradients space_to_depth_gradient(GradientContext& g) { return {g.b.op("DepthToSpace", {g.dy()}, g.node.attributes)}; }
/// 0, 1, 2 ...
Tensor counted(std::int64_t n) {
  Tensor t(DType::i64, Shape{n});
  std::iota(t.span<std::int64_t>().begin(), t.span<std::int64_t>().end(), 0);
  return t;
}

Gradients reverse_sequence_gradient(GradientContext& g) {
  return {g.b.op("ReverseSequence", {g.dy(), g.in(1)}, g.node.attributes)};
}

}  // namespace

/// Of every place in time the one that it is taken from, for sequences in the first axis and times in the second.
Expr reverse_sequence_by_gather(Builder& b, const Node& node) {
  const Expr x = b.expr(node.inputs[0]), lengths = b.expr(node.inputs[1]);
  const Shape shape = x.shape();
  if (!shape.is_static() || shape.count() == 0) return {};
  const std::size_t time = normalize_axis(node.attributes.get_int("time_axis", 0), shape.rank()),
                    batch = normalize_axis(node.attributes.get_int("batch_axis", 1), shape.rank());
  if (std::max(time, batch) != 1 || time == batch) return {};
  const Expr places = b.constant(counted(shape[time])), end = b.reshape(lengths, {shape[batch], 1});
  // A length below 0 asks for what there is not, as one beyond the times does.
  const Expr others = b.op("Where", {b.op("Less", {end, b.scalar(0, DType::i64)}),
                                     b.scalar(static_cast<double>(shape[time]), DType::i64), places});
  const Expr from = b.op("Where", {b.op("Less", {places, end}), end - 1 - places, others});
  std::vector<std::int64_t> perm(shape.rank());
  std::iota(perm.begin(), perm.end(), 0);
  if (batch == 1) std::swap(perm[0], perm[1]);
  const auto ordered = [&](Expr e) { return batch == 1 ? b.transpose(e, perm) : e; };
  const Expr indices = b.reshape(from, {shape[batch], shape[time], 1});
  return ordered(b.op("GatherND", {ordered(x), indices}, {{"batch_dims", std::int64_t{1}}}));
}

std::vector<OpDef> movement_rows() {
  using enum PrecisionClass;
  return {
      onnx_row("Transpose", neutral, {.movement = Movement::permute}, transpose, transpose_gradient,
               {{"(float[2,3,4] x) => (float[4,3,2] y) { y = Transpose(x) }"},
                {"(float[2,3,4] x) => (float[3,4,2] y) { y = Transpose<perm=[1,2,0]>(x) }"},
                {"(float x) => (float y) { y = Transpose(x) }"},
                {"(float[0,3] x) => (float[3,0] y) { y = Transpose(x) }"}}),
      onnx_row("Concat", neutral, {.movement = Movement::join}, concat, concat_gradient,
               {{"(float[2,3] a, float[2,1] b) => (float[2,4] y) { y = Concat<axis=-1>(a, b) }"},
                {"(float[2,3] a, float[1,3] b, float[0,3] c) => (float[3,3] y) { y = Concat<axis=0>(a, b, c) }"},
                {"(float[3] a) => (float[6] y) { y = Concat<axis=0>(a, a) }"},
                {"() => (int64[3] y) <int64[2] a = {1, 2}, int64[1] b = {7}> { y = Concat<axis=0>(a, b) }"}}),
      onnx_row("Expand", neutral, {.movement = Movement::repeat}, expand, expand_gradient,
               {{"(float[3,1] x) => (float[2,3,4] y) <int64[3] s = {2, 1, 4}> { y = Expand(x, s) }"},
                {"(float x) => (float[3] y) <int64[1] s = {3}> { y = Expand(x, s) }"},
                {"(float[2,3] x) => (float[2,3] y) <int64[1] s = {1}> { y = Expand(x, s) }"}}),
      onnx_row("Tile", neutral, {.movement = Movement::repeat}, tile, tile_gradient,
               {{"(float[2,3] x) => (float[4,9] y) <int64[2] r = {2, 3}> { y = Tile(x, r) }"},
                {"(float[3] x) => (float[3] y) <int64[1] r = {1}> { y = Tile(x, r) }"},
                {"() => (int32[4] y) <int32[2] x = {1, 2}, int64[1] r = {2}> { y = Tile(x, r) }"}}),
      onnx_row("Trilu", neutral, {}, trilu, trilu_gradient,
               {{"(float[2,3,4] x) => (float[2,3,4] y) { y = Trilu(x) }"},
                {"(float[3,4] x) => (float[3,4] y) <int64 k = {-1}> { y = Trilu<upper=0>(x, k) }"},
                {"(float[3,4] x) => (float[3,4] y) <int64 k = {2}> { y = Trilu(x, k) }"}}),
      onnx_row("DepthToSpace", neutral, {}, depth_to_space, depth_to_space_gradient,
               {{"(float[1,8,2,3] x) => (float[1,2,4,6] y) { y = DepthToSpace<blocksize=2>(x) }"},
                {"(float[1,8,2,3] x) => (float[1,2,4,6] y) { y = DepthToSpace<blocksize=2, mode=\"CRD\">(x) }"}}),
      onnx_row("SpaceToDepth", neutral, {}, space_to_depth, space_to_depth_gradient,
               {{"(float[1,2,4,6] x) => (float[1,8,2,3] y) { y = SpaceToDepth<blocksize=2>(x) }"},
                {"(float[1,2,4,6] x) => (float[1,8,2,3] y) { y = SpaceToDepth<blocksize=2, mode=\"CRD\">(x) }"}}),
      onnx_row("ReverseSequence", neutral, {}, reverse_sequence, reverse_sequence_gradient,
               {{"(float[4,3,2] x) => (float[4,3,2] y) <int64[3] n = {4, 1, 3}> { y = ReverseSequence(x, n) }"},
                {"(float[2,5] x) => (float[2,5] y) <int64[2] n = {2, 5}>"
                 " { y = ReverseSequence<time_axis=1, batch_axis=0>(x, n) }"},
                {"() => (int32[3,1] y) <int32[3,1] x = {1, 2, 3}, int64[1] n = {0}> { y = ReverseSequence(x, n) }"}}),
  };
}

}  // namespace halfstep::ops
