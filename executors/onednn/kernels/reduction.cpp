// Reductions and softmax by SIMD kernels.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/simd_kernel.h"
#include "executors/onednn/simd/reduce.h"
#include "executors/onednn/simd/softmax.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::onednn {
namespace {

struct ReduceRow {
  std::string_view op;
  simd::ReduceOp reduce;
};
constexpr ReduceRow kReductions[] = {{"ReduceSum", simd::ReduceOp::sum},
                                     {"ReduceMean", simd::ReduceOp::mean},
                                     {"ReduceSumSquare", simd::ReduceOp::sum_square},
                                     {"ReduceMax", simd::ReduceOp::max},
                                     {"ReduceMin", simd::ReduceOp::min},
                                     {"GlobalAveragePool", simd::ReduceOp::mean}};

/// Which axes a node reduces; empty when they are computed.
std::optional<std::vector<bool>> reduced_axes(KernelContext& context) {
  const std::size_t rank = context.in(0).shape.rank();
  std::vector<bool> reduced(rank, false);
  if (context.node().op == "GlobalAveragePool") {
    std::fill(reduced.begin() + 2, reduced.end(), true);
    return reduced;
  }
  std::vector<std::int64_t> axes;
  if (context.has_input(1)) {
    const auto given = context.constant_ints(1);
    if (!given) return std::nullopt;
    axes = *given;
  }
  for (std::size_t axis : ops::normalize_axes(axes, rank)) reduced[axis] = true;
  if (axes.empty()) reduced.assign(rank, context.node().attributes.get_int("noop_with_empty_axes", 0) == 0);
  return reduced;
}

/// The reduction over axes in their order in memory, when they alternate as [reduced, kept, reduced, kept].
std::optional<simd::ReduceShape> reduce_shape(const Shape& shape, const std::vector<bool>& reduced,
                                              const std::vector<std::size_t>& order) {
  std::vector<std::pair<bool, std::int64_t>> runs;
  std::vector<std::size_t> kept;
  for (std::size_t axis : order) {
    if (shape[axis] == 1) continue;
    if (!reduced[axis]) kept.push_back(axis);
    if (!runs.empty() && runs.back().first == reduced[axis])
      runs.back().second *= shape[axis];
    else
      runs.emplace_back(reduced[axis], shape[axis]);
  }
  // The result is row-major.
  if (!std::is_sorted(kept.begin(), kept.end())) return std::nullopt;
  simd::ReduceShape result;
  std::int64_t* const slots[] = {&result.reduced0, &result.kept0, &result.reduced1, &result.kept1};
  std::size_t slot = 0;
  // A single run of kept axes before reduced ones goes to slots 1 and 2, and so on: the parity tells the kind.
  for (const auto& [is_reduced, extent] : runs) {
    if ((slot % 2 == 0) != is_reduced) ++slot;
    if (slot >= 4) return std::nullopt;
    *slots[slot++] = extent;
  }
  // Columns are summed faster than many runs of one element.
  if (result.reduced1 == 1 && result.kept1 == 1) {
    if (result.reduced0 > 1) result = {1, 1, result.reduced0, result.kept0};
  }
  return result;
}

}  // namespace

Made make_reduce(KernelContext& context) {
  const Value &x = context.in(0), &y = context.out(0);
  const auto reduced = reduced_axes(context);
  if (!reduced) return refuse("axes that are computed");
  const ReduceRow* row = std::find_if(std::begin(kReductions), std::end(kReductions),
                                      [&](const ReduceRow& r) { return r.op == context.node().op; });
  std::vector<std::size_t> natural(x.shape.rank());
  for (std::size_t i = 0; i < natural.size(); ++i) natural[i] = i;
  Layout layout = context.layout(0);
  std::optional<simd::ReduceShape> shape;
  if (!layout.is_row_major() && layout.is_permutation() && layout.dims() == dims_of(x.shape))
    shape = reduce_shape(x.shape, *reduced, layout.axis_order());
  if (!shape) {
    layout = Layout();
    shape = reduce_shape(x.shape, *reduced, natural);
  }
  if (!shape) return refuse("axes that alternate too often");
  const simd::ReduceKernel kernel = simd::find_reduce(row->reduce, x.dtype, y.dtype, *shape);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(x.dtype)));
  const Operand from = context.read(0, layout);
  const Operand to = context.write(0, Layout());
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  return simd_kernel(kernel, from, to, scratch);
}

namespace {

/// Softmax or its gradient along the node's axis: `make` has the operands and is given the function that runs on them.
template <class Find, class Make>
Made make_along_axis(KernelContext& context, const Find& find, const Make& make) {
  const Node& node = context.node();
  const Value& x = context.in(0);
  const auto kernel =
      find(node.op.starts_with("Log") ? simd::SoftmaxOp::log_softmax : simd::SoftmaxOp::softmax, x.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(x.dtype)));
  if (x.shape.rank() == 0) return refuse("a scalar");
  const std::size_t axis = normalize_axis(node.attributes.get_int("axis", -1), x.shape.rank());
  const std::int64_t outer = x.shape.count(0, axis), n = x.shape[axis], inner = x.shape.count(axis + 1, x.shape.rank());
  return make([=](auto*... at) { kernel(at..., outer, n, inner); });
}

}  // namespace

Made make_softmax(KernelContext& context) {
  return make_along_axis(context, simd::find_softmax, [&](auto kernel) {
    const Operand x = context.read(0, Layout());
    return simd_kernel(kernel, x, context.write_over(0, x));
  });
}

Made make_softmax_grad(KernelContext& context) {
  return make_along_axis(context, simd::find_softmax_grad, [&](auto kernel) {
    const Operand dy = context.read(0, Layout()), y = context.read(1, Layout());
    return simd_kernel(kernel, dy, y, context.write_over(0, dy));
  });
}

}  // namespace halfstep::onednn
