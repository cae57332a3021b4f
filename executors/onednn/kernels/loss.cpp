// Softmax cross-entropy and its gradient by SIMD kernels, for scores [N, C].
#include "ops/losses/loss.h"

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/cross_entropy.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::onednn {
namespace {

simd::CrossEntropyParams params_of(const Node& node, const Shape& scores) {
  simd::CrossEntropyParams params;
  params.rows = scores[0];
  params.classes = scores[1];
  const std::string reduction = node.attributes.get_string("reduction", "mean");
  params.reduction = reduction == "none"  ? simd::LossReduction::none
                     : reduction == "sum" ? simd::LossReduction::sum
                                          : simd::LossReduction::mean;
  if (node.attributes.has("ignore_index")) params.ignore_index = node.attributes.get_int("ignore_index", 0);
  return params;
}

}  // namespace

Made make_cross_entropy(KernelContext& context) {
  const Value &scores = context.in(0), &labels = context.in(1);
  if (scores.shape.rank() != 2) return refuse("scores with more axes than [N, C]");
  const std::string reduction = context.node().attributes.get_string("reduction", "mean");
  if (reduction != "none" && reduction != "sum" && reduction != "mean") return refuse("an unknown reduction");
  const simd::CrossEntropyParams params = params_of(context.node(), scores.shape);
  if (!context.fits(1, {params.rows}) || !context.fits(2, {params.classes}))
    return refuse("labels or weights of another shape");
  const simd::CrossEntropyKernel kernel = simd::find_cross_entropy(params, scores.dtype, labels.dtype);
  if (!kernel)
    return refuse(fmt::format("no SIMD kernel for {} with {} labels", name_of(scores.dtype), name_of(labels.dtype)));
  const Operand x = context.read(0, Layout()), y = context.read(1, Layout()), w = context.read(2, Layout());
  const Operand log_prob = context.has_output(1) ? context.write_over(1, x) : Operand();
  Operand loss = context.write(0, Layout());
  if (!loss) loss.buffer = context.scratch(bytes_of(scores.dtype, context.out(0).shape));
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  return {"simd", {}, [=](const Memory& memory) -> Run {
            const Tensor checked = Tensor::view(y.dtype, y.shape, memory.at(y));
            return [=, x0 = memory.at(x), labels0 = memory.at(y), w0 = memory.at(w), l = memory.at(loss),
                    p = memory.at(log_prob), s = memory.at(scratch)] {
              ops::check_labels(checked, params.classes, params.ignore_index);
              kernel(x0, labels0, w0, l, p, s);
            };
          }};
}

Made make_cross_entropy_grad(KernelContext& context) {
  const Value &dloss = context.in(0), &log_prob = context.in(1), &labels = context.in(2);
  if (log_prob.shape.rank() != 2) return refuse("scores with more axes than [N, C]");
  const simd::CrossEntropyParams params = params_of(context.node(), log_prob.shape);
  if (!context.fits(2, {params.rows}) || !context.fits(3, {params.classes}))
    return refuse("labels or weights of another shape");
  const simd::CrossEntropyGradKernel kernel =
      simd::find_cross_entropy_grad(params, log_prob.dtype, labels.dtype, dloss.dtype);
  if (!kernel)
    return refuse(fmt::format("no SIMD kernel for {} with {} labels", name_of(log_prob.dtype), name_of(labels.dtype)));
  const Operand d = context.read(0, Layout()), p = context.read(1, Layout()), y = context.read(2, Layout()),
                w = context.read(3, Layout());
  const Operand dx = context.write_over(0, p);
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  return {"simd", {}, [=](const Memory& memory) -> Run {
            const Tensor checked = Tensor::view(y.dtype, y.shape, memory.at(y));
            return [=, d0 = memory.at(d), p0 = memory.at(p), labels0 = memory.at(y), w0 = memory.at(w),
                    to = memory.at(dx), s = memory.at(scratch)] {
              ops::check_labels(checked, params.classes, params.ignore_index);
              kernel(d0, p0, labels0, w0, to, s);
            };
          }};
}

}  // namespace halfstep::onednn
