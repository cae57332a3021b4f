// Makers of operators that move elements from places to others, by generated kernels.
#include <algorithm>
#include <numeric>
#include <optional>

#include "executors/core/part.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/move_text.h"
#include "executors/cudnn/tensor_order.h"
#include "executors/cudnn/text_kernel.h"
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::cudnn {
namespace {

using core::Part;
using Dims = std::vector<std::int64_t>;

constexpr unsigned kThreads = 256;

/// Elements of a tensor, by number: the first, and what to step over along each axis.
struct Walk {
  std::int64_t offset = 0;
  Dims steps;
};
Walk walk_of(const Shape& whole, const Part& part, TensorOrder order) {
  Walk walk{0, strides_in(order, whole.dims())};
  for (std::size_t axis = 0; axis < whole.rank(); ++axis) {
    walk.offset += part.begin[axis] * walk.steps[axis];
    walk.steps[axis] *= part.steps[axis];
  }
  return walk;
}

/// Of a part that lies by itself.
Walk packed_walk(const Part& part, TensorOrder order) { return {0, strides_in(order, part.extents)}; }

/// What belongs to axes, from the slowest in memory to the fastest.
Dims in_memory(Dims of_axes, TensorOrder order) {
  if (order == TensorOrder::channels_last) std::rotate(of_axes.begin() + 1, of_axes.begin() + 2, of_axes.end());
  return of_axes;
}

/// One copy, ready but for the addresses.
struct Move {
  std::shared_ptr<const LoadedKernel> kernel;
  MoveArguments arguments{};
  std::size_t skip_from = 0, skip_to = 0;  ///< bytes

  void operator()(const void* from, void* to, cudaStream_t stream) const {
    MoveArguments a = arguments;
    a.from = static_cast<const std::byte*>(from) + skip_from;
    a.to = static_cast<std::byte*>(to) + skip_to;
    kernel->launch(blocks_for(a.count, kThreads), kThreads, as_argument(a), stream);
  }
};
/// Nothing where too many axes remain after merging.
std::optional<Move> make_move(KernelContext& context, DType dtype, const Dims& extents, const Walk& from,
                              const Walk& to, TensorOrder order = TensorOrder::row_major) {
  const Dims steps[] = {in_memory(from.steps, order), in_memory(to.steps, order)};
  const std::vector<Index> maps = collapse(in_memory(extents, order), steps);
  if (maps.empty()) return std::nullopt;
  // What lies together in both is moved as wider elements.
  const int axes = std::max(maps[0].rank, 1), last = maps[0].rank - 1;
  std::int64_t together = 1;
  if (last >= 0 && maps[0].steps[last] == 1 && maps[1].steps[last] == 1)
    together = moved_together(dtype, {{&maps[0].extents[last], 1},
                                      {maps[0].steps, static_cast<std::size_t>(last)},
                                      {maps[1].steps, static_cast<std::size_t>(last)},
                                      {&from.offset, 1},
                                      {&to.offset, 1}});
  Move move;
  std::ranges::fill(move.arguments.extents, 1);
  move.arguments.count = Shape(extents).count() / together;
  for (int axis = 0; axis <= last; ++axis) {
    const std::int64_t one = axis == last ? 1 : together;
    move.arguments.extents[axis] = maps[0].extents[axis] / (axis == last ? together : 1);
    move.arguments.from_steps[axis] = maps[0].steps[axis] / one;
    move.arguments.to_steps[axis] = maps[1].steps[axis] / one;
  }
  move.skip_from = bytes_of(dtype, static_cast<std::size_t>(from.offset));
  move.skip_to = bytes_of(dtype, static_cast<std::size_t>(to.offset));
  const std::string axes_text = std::to_string(axes);
  move.kernel = load_text(context, "move", "MoveArguments", kMoveArgumentsText,
                          filled(kMoveText, {{"axes", axes_text},
                                             {"element", word_of(bytes_of(dtype, static_cast<std::size_t>(together)))},
                                             {"position", position_of(move.arguments.count)}}));
  return move;
}

/// Copies between input i and output o, one after the other; `clears`: output 0 is zero before.
struct Copies {
  struct One {
    std::size_t in, out;
    Move move;
  };
  std::vector<One> all = {};
  bool clears = false;
  TensorOrder order = TensorOrder::row_major;  ///< of all operands and results
};
Made run_copies(KernelContext& context, Copies copies) {
  const std::size_t bytes = bytes_of(context.out(0).dtype, context.out(0).shape);
  std::vector<core::Layout> in(context.node().inputs.size()), out;
  for (const Copies::One& one : copies.all) in[one.in] = layout_in(copies.order, context.in(one.in).shape);
  for (const ValueId id : context.node().outputs) out.push_back(layout_in(copies.order, context.graph()[id].shape));
  return on_device(context, {.name = "generated: move",
                             .launch =
                                 [copies = std::move(copies), bytes](const Launch& l) {
                                   if (copies.clears)
                                     check(cudaMemsetAsync(l.out[0], 0, bytes, l.stream), "cudaMemsetAsync");
                                   for (const Copies::One& one : copies.all)
                                     one.move(l.in[one.in], l.out[one.out], l.stream);
                                 },
                             .in_layouts = std::move(in),
                             .out_layouts = std::move(out)});
}

constexpr const char* kTooManyAxes = "more than 8 axes remain after merging";

/// Why nothing can be generated for the node; empty when it can.
std::string refusal(KernelContext& context) {
  for (const ValueId id : context.node().outputs)
    if (id != kNoValue && bytes_of(context.graph()[id].dtype, 1) > 8) return "elements of more than 8 bytes";
  return generation_refusal();
}

/// The part of `large`, in or out.
Made copy_part(KernelContext& context, const Part& part, bool inward) {
  const Shape& large = (inward ? context.out(0) : context.in(0)).shape;
  const TensorOrder order = order_of(context.layout(0));
  const Walk inside = walk_of(large, part, order), packed = packed_walk(part, order);
  auto move =
      make_move(context, context.out(0).dtype, part.extents, inward ? packed : inside, inward ? inside : packed, order);
  if (!move) return refuse(kTooManyAxes);
  return run_copies(context, {{{0, 0, std::move(*move)}}, inward, order});
}

}  // namespace

Made make_slice(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const auto part = core::part_of_slice(context, context.in(0).shape, context.out(0).shape);
  if (!part) return refuse("a slice that is computed");
  return copy_part(context, *part, false);
}

Made make_slice_grad(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const auto part = core::part_of_slice(context, context.out(0).shape, context.in(0).shape);
  if (!part) return refuse("a slice that is computed");
  return copy_part(context, *part, true);
}

Made make_transpose(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const Shape &x = context.in(0).shape, &y = context.out(0).shape;
  Dims perm(x.rank());
  std::iota(perm.rbegin(), perm.rend(), 0);
  perm = context.node().attributes.get_ints("perm", perm);
  const Dims own = x.strides();
  Dims steps;
  for (const std::int64_t axis : perm) steps.push_back(own[static_cast<std::size_t>(axis)]);
  auto move = make_move(context, context.out(0).dtype, y.dims(), {0, steps}, {0, y.strides()});
  if (!move) return refuse(kTooManyAxes);
  return run_copies(context, {{{0, 0, std::move(*move)}}});
}

/// The image with the more channels is [N, b, b, C, H, W] or, by column and row, [N, C, b, b, H, W]; the other one is
/// [N, C, H b, W b].
Made make_space_and_depth(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const bool is_deep = context.node().op == "DepthToSpace";  // the operand
  const Shape &x = context.in(0).shape, &y = context.out(0).shape;
  if (x.rank() != 4 || x.count() == 0) return refuse("no image with elements");
  const Shape &deep = is_deep ? x : y, &wide = is_deep ? y : x;
  const std::int64_t h = deep[2], w = deep[3], c = wide[1], b = context.node().attributes.get_int("blocksize", 1);
  const bool by_depth = context.node().attributes.get_string("mode", "DCR") == "DCR";
  const Dims extents{x[0], c, h, b, w, b};
  const std::int64_t place = by_depth ? c * h * w : h * w;  // between neighbours in a block
  const Walk blocks{0, {deep.count(1, 4), by_depth ? h * w : b * b * h * w, w, b * place, 1, place}};
  const Walk whole{0, Shape(extents).strides()};
  const auto move =
      make_move(context, context.in(0).dtype, extents, is_deep ? blocks : whole, is_deep ? whole : blocks);
  if (!move) return refuse(kTooManyAxes);
  return run_copies(context, {{{0, 0, *move}}});
}

Made make_pad(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const core::Parts parts = core::part_of_pad(context);
  return parts.refusal.empty() ? copy_part(context, parts.all[0], true) : refuse(parts.refusal);
}

Made make_tile(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const auto repeats = context.constant_ints(1);
  if (!repeats) return refuse("repeats that are computed");
  const Shape& x = context.in(0).shape;
  const Dims steps = x.strides();
  Dims extents, from;  // repeat, extent; repeat, extent; …
  for (std::size_t axis = 0; axis < x.rank(); ++axis) {
    extents.insert(extents.end(), {(*repeats)[axis], x[axis]});
    from.insert(from.end(), {0, steps[axis]});
  }
  auto move = make_move(context, context.out(0).dtype, extents, {0, from}, {0, Shape(extents).strides()});
  if (!move) return refuse(kTooManyAxes);
  return run_copies(context, {{{0, 0, std::move(*move)}}});
}

Made make_split(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const Value& x = context.in(0);
  const core::Parts parts = core::parts_of_split(context);
  if (!parts.refusal.empty()) return refuse(parts.refusal);
  Copies copies{.order = order_of(context.layout(0))};
  for (std::size_t i = 0; i < parts.all.size(); ++i) {
    auto move = make_move(context, x.dtype, parts.all[i].extents, walk_of(x.shape, parts.all[i], copies.order),
                          packed_walk(parts.all[i], copies.order), copies.order);
    if (!move) return refuse(kTooManyAxes);
    copies.all.push_back({0, i, std::move(*move)});
  }
  return run_copies(context, std::move(copies));
}

Made make_concat(KernelContext& context) {
  if (std::string reason = refusal(context); !reason.empty()) return refuse(reason);
  const Value& y = context.out(0);
  const core::Parts parts = core::parts_of_concat(context);
  if (!parts.refusal.empty()) return refuse(parts.refusal);
  Copies copies;
  for (std::size_t i = 0; i < parts.all.size(); ++i)
    if (order_of(context.layout(i)) == TensorOrder::channels_last) copies.order = TensorOrder::channels_last;
  for (std::size_t i = 0; i < parts.all.size(); ++i) {
    auto move = make_move(context, y.dtype, parts.all[i].extents, packed_walk(parts.all[i], copies.order),
                          walk_of(y.shape, parts.all[i], copies.order), copies.order);
    if (!move) return refuse(kTooManyAxes);
    copies.all.push_back({i, 0, std::move(*move)});
  }
  return run_copies(context, std::move(copies));
}

}  // namespace halfstep::cudnn
