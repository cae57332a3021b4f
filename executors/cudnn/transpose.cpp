// Transposition by tiles: of Transpose, and of tensors that are wanted in another order.
#include "executors/cudnn/transpose.h"

#include <numeric>

#include <fmt/format.h>

#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/device_text.h"
#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {

TransposeKernel transpose_kernel(const std::vector<std::int64_t>& extents,
                                 std::span<const std::vector<std::int64_t>> steps, DType dtype, int capability) {
  if (std::string reason = generation_refusal(); !reason.empty()) return {.refusal = reason};
  const std::vector<Index> maps = collapse(extents, steps);
  if (maps.empty()) return {.refusal = "more than 8 axes remain after merging"};
  const Index &from = maps[0], &to = maps[1];
  int row = 0;
  while (row < from.rank && from.steps[row] != 1) ++row;
  const int column = from.rank - 1;
  if (row >= column) return {.refusal = "what lies together in the operand does so in the result"};

  TransposeArguments a{};
  a.rows = from.extents[row];
  a.columns = from.extents[column];
  a.row_step = to.steps[row];
  a.column_step = from.steps[column];
  a.row_tiles = (a.rows + 31) / 32;
  a.column_tiles = (a.columns + 31) / 32;
  a.tiles = a.row_tiles * a.column_tiles;
  int axes = 0;
  for (int axis = 0; axis < from.rank; ++axis) {
    if (axis == row || axis == column) continue;
    a.extents[axes] = from.extents[axis];
    a.from_steps[axes] = from.steps[axis];
    a.to_steps[axes++] = to.steps[axis];
    a.tiles *= from.extents[axis];
  }
  const std::string text = filled(kTransposeText, {{"element", word_of(dtype)}, {"axes", std::to_string(axes)}});
  const auto kernel = load_kernel(
      {"transpose", "TransposeArguments", fmt::format("{}{}\n{}", kDeviceText, kTransposeArgumentsText, text)},
      capability);
  return {.launch = [kernel, a](const void* source, void* target, cudaStream_t stream) {
    TransposeArguments with = a;
    with.from = source;
    with.to = target;
    kernel->launch(blocks_for(a.tiles, 1), 256, as_argument(with), stream);
  }};
}

Made make_transpose_tiled(KernelContext& context) {
  const Shape &x = context.in(0).shape, &y = context.out(0).shape;
  std::vector<std::int64_t> perm(x.rank());
  std::iota(perm.rbegin(), perm.rend(), 0);
  perm = context.node().attributes.get_ints("perm", perm);
  const std::vector<std::int64_t> own = x.strides();
  std::vector<std::int64_t> steps[2];  // in the operand, in the result
  for (const std::int64_t axis : perm) steps[0].push_back(own[axis]);
  steps[1] = y.strides();
  const TransposeKernel kernel = transpose_kernel(y.dims(), steps, context.in(0).dtype, libraries(context).capability);
  if (!kernel.refusal.empty()) return refuse(kernel.refusal);
  return on_device(context, {.name = "generated: transpose",
                             .launch = [run = kernel.launch](const Launch& l) { run(l.in[0], l.out[0], l.stream); }});
}

}  // namespace halfstep::cudnn
