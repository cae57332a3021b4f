// ConvGradInput.
#include <fmt/format.h>

#include "executors/onednn/kernels/convolution.h"

namespace halfstep::onednn {

Made make_convolution_grad_input(KernelContext& context) {
  const Value &dy = context.in(0), &w = context.in(1), &dx = context.out(0);
  if (!has_dnnl_rank(dx.shape)) return refuse("oneDNN convolutions have one to three spatial axes");
  const Convolution c = make_convolution_extents(context.node().attributes, dx.shape, w.shape, dy.shape);
  const DnnlWindow& window = c.window;
  const auto chosen = choose_primitive(dy.dtype, [&](DType t) {
    using Pd = dnnl::convolution_backward_data::primitive_desc;
    const auto hint = describe_convolution(c, dnnl::prop_kind::forward_training, t, DType::undefined, t, {});
    if (!hint.get(true)) return Pd();
    return Pd(engine(), dnnl::algorithm::convolution_direct, any_order(c.source, t), any_order(c.weights, t),
              any_order(c.destination, t), window.strides, window.dilation, window.pad_begin, window.pad_end, hint,
              user_scratchpad(), true);
  });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} convolution gradient of this form", name_of(dy.dtype)));

  const Operand diff = context.read(0, layout_of(chosen.pd.diff_dst_desc()), chosen.dtype);
  const Operand weights = context.read(1, layout_of(chosen.pd.weights_desc()), chosen.dtype);
  const Operand result = context.write(0, layout_of(chosen.pd.diff_src_desc()), chosen.dtype);
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  return {kernel_name(chosen.pd), conversion_remark(dy.dtype, chosen.dtype),
          bind_primitive(dnnl::convolution_backward_data(chosen.pd),
                         {{DNNL_ARG_DIFF_DST, chosen.pd.diff_dst_desc(), diff.buffer},
                          {DNNL_ARG_WEIGHTS, chosen.pd.weights_desc(), weights.buffer},
                          {DNNL_ARG_DIFF_SRC, chosen.pd.diff_src_desc(), result.buffer},
                          {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}})};
}

}  // namespace halfstep::onednn
