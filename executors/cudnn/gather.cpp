// Makers of Gather and its gradient, by generated kernels.
#include <limits>
#include <span>
#include <string>

#include "executors/cudnn/index_order.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/gather_text.h"
#include "executors/cudnn/text_kernel.h"
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;

/// Along an axis of the data's shape.
GatherArguments gather_arguments(const Shape& data, std::int64_t axis_attribute, std::int64_t indices) {
  const std::size_t axis = normalize_axis(axis_attribute, data.rank());
  GatherArguments a{};
  a.index_count = indices;
  a.extent = data[axis];
  a.inner = data.count(axis + 1, data.rank());
  return a;
}

GatherArguments with_addresses(GatherArguments a, const Launch& l) {
  a.data = l.in[0];
  a.indices = l.in[1];
  a.result = l.out[0];
  return a;
}

}  // namespace

Made make_gather(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const Value &data = context.in(0), &indices = context.in(1);
  if (index_name(indices.dtype).empty()) return refuse("indices that are neither i32 nor i64");
  GatherArguments a = gather_arguments(data.shape, context.node().attributes.get_int("axis", 0), indices.shape.count());
  const std::int64_t inner = a.inner, together = moved_together(data.dtype, {std::span(&inner, 1)});
  a.inner /= together;
  a.count = context.out(0).shape.count() / together;
  const std::size_t bytes = bytes_of(data.dtype, static_cast<std::size_t>(together));
  const auto kernel = load_text(context, "gather", "GatherArguments", kGatherArgumentsText,
                                filled(kGatherText, {{"element", word_of(bytes)},
                                                     {"missing", bytes == 16 ? "{{~0ull, ~0ull}}" : "(Element)~0ull"},
                                                     {"index", index_name(indices.dtype)},
                                                     {"position", position_of(a.count)}}));
  return on_device(context, {.name = "generated: gather", .launch = [=](const Launch& l) {
                               kernel->launch(blocks_for(a.count, kThreads), kThreads,
                                              as_argument(with_addresses(a, l)), l.stream);
                             }});
}

Made make_gather_grad(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const Value &dy = context.in(0), &indices = context.in(1);
  if (index_name(indices.dtype).empty()) return refuse("indices that are neither i32 nor i64");
  if (float_name(dy.dtype).empty()) return refuse("gradients that are not f32, f16 or bf16");
  const Shape& dx = context.out(0).shape;
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", 0), dx.rank());
  GatherGradArguments a{};
  a.count = indices.shape.count();
  a.chunks = pieces_of(a.count, GatherGradArguments::kChunk);
  a.outer = dx.count(0, axis);
  a.extent = dx[axis];
  const std::int64_t inner = dx.count(axis + 1, dx.rank());
  a.inner = inner;
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() - 1;
  if (a.count > kMost || a.extent > kMost) return refuse("2^31 rows or more");

  const IndexOrder order(context, a.count, a.extent);
  const auto load = [&](const char* name, std::string_view text) {
    return load_text(context, name, "GatherGradArguments", kGatherGradArgumentsText, std::string(text));
  };
  const std::string vector = std::to_string(moved_together(dy.dtype, {std::span(&inner, 1)}));
  const auto rows = [&](const char* name, std::string_view text) {
    return load(name, filled(std::string(kGatherGradText) + std::string(text),
                             {{"vector", vector}, {"element", float_name(dy.dtype)}}));
  };
  const auto keys = load("gather_keys", filled(kGatherKeysText, {{"index", index_name(indices.dtype)}}));
  const auto chunks = rows("gather_grad", kGatherGradChunksText), join = rows("gather_grad_join", kGatherGradJoinText);
  const std::size_t bytes = bytes_of(dy.dtype, dx);
  const auto partial = static_cast<std::size_t>(a.outer * a.chunks * 2 * a.inner) * sizeof(float);
  const auto launch = [=](const Launch& l) {
    check(cudaMemsetAsync(l.out[0], 0, bytes, l.stream), "cudaMemsetAsync");
    if (a.count == 0) return;
    GatherGradArguments with = a;
    with.dy = l.in[0];
    with.indices = l.in[1];
    with.dx = l.out[0];
    with.partial = static_cast<float*>(l.scratch);
    std::byte* behind = static_cast<std::byte*>(l.scratch) + partial;
    with.keys = order.indices(behind);
    keys->launch(blocks_for(a.count, kThreads), kThreads, as_argument(with), l.stream);
    const IndexOrder::Sorted sorted = order.sort(behind, l.stream);
    with.keys = const_cast<int*>(sorted.indices);
    with.places = sorted.places;
    const unsigned blocks = blocks_for(a.chunks * a.outer, 1);
    chunks->launch(blocks, kThreads, as_argument(with), l.stream);
    join->launch(blocks, kThreads, as_argument(with), l.stream);
  };
  return on_device(context,
                   {.name = "generated: gather", .launch = launch, .scratch_bytes = partial + order.scratch_bytes()});
}

}  // namespace halfstep::cudnn
