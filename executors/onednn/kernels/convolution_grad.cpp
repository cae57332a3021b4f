// ConvGradInput and ConvGradWeight, the latter with the bias' gradient when the graph asks for both.
#include <fmt/format.h>

#include "executors/onednn/fusion.h"
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

  const Operand diff = context.read(0, Layout(chosen.pd.diff_dst_desc()), chosen.dtype);
  const Operand weights = context.read(1, Layout(chosen.pd.weights_desc()), chosen.dtype);
  const Operand result = context.write(0, Layout(chosen.pd.diff_src_desc()), chosen.dtype);
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  return {kernel_name(chosen.pd), conversion_remark(dy.dtype, chosen.dtype),
          bind_primitive(dnnl::convolution_backward_data(chosen.pd),
                         {{DNNL_ARG_DIFF_DST, chosen.pd.diff_dst_desc(), diff.buffer},
                          {DNNL_ARG_WEIGHTS, chosen.pd.weights_desc(), weights.buffer},
                          {DNNL_ARG_DIFF_SRC, chosen.pd.diff_src_desc(), result.buffer},
                          {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}})};
}

Made make_convolution_grad_weight(KernelContext& context) {
  const Value &dy = context.in(0), &x = context.in(1), &dw = context.out(0);
  if (!has_dnnl_rank(x.shape)) return refuse("oneDNN convolutions have one to three spatial axes");
  const Convolution c = make_convolution_extents(context.node().attributes, x.shape, dw.shape, dy.shape);
  const DnnlWindow& window = c.window;

  const Node* bias_sum = nullptr;
  std::size_t bias_index = 0;
  for (const auto& [weight, bias] : bias_gradient_pairs(context.graph())) {
    if (weight != context.node_index() || context.is_done(bias)) continue;
    bias_index = bias;
    bias_sum = &context.graph().nodes[bias];
  }
  auto out_type = [&](DType t) { return t == dy.dtype ? dw.dtype : DType::f32; };
  // Of bias gradients oneDNN makes every type in f32.
  const DType bias_type = bias_sum ? DType::f32 : DType::undefined;
  const auto chosen = choose_primitive(dy.dtype, [&](DType t) {
    using Pd = dnnl::convolution_backward_weights::primitive_desc;
    const auto hint = describe_convolution(c, dnnl::prop_kind::forward_training, t, bias_type, t, {});
    if (!hint.get(true)) return Pd();
    const Desc bias = bias_sum ? any_order({c.channels_out}, bias_type) : Desc();
    return Pd(engine(), dnnl::algorithm::convolution_direct, any_order(c.source, t), any_order(c.weights, out_type(t)),
              bias, any_order(c.destination, t), window.strides, window.dilation, window.pad_begin, window.pad_end,
              hint, user_scratchpad(), true);
  });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} convolution gradient of this form", name_of(dy.dtype)));

  const Operand diff = context.read(0, Layout(chosen.pd.diff_dst_desc()), chosen.dtype);
  const Operand source = context.read(1, Layout(chosen.pd.src_desc()), chosen.dtype);
  const Operand result = context.write(0, Layout(chosen.pd.diff_weights_desc()), out_type(chosen.dtype));
  Operand bias;
  if (bias_sum) {
    bias = context.write_value(bias_sum->outputs[0], Layout(), bias_type);
    context.absorb(bias_index);
  }
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  return {kernel_name(chosen.pd), conversion_remark(dy.dtype, chosen.dtype),
          bind_primitive(dnnl::convolution_backward_weights(chosen.pd),
                         {{DNNL_ARG_DIFF_DST, chosen.pd.diff_dst_desc(), diff.buffer},
                          {DNNL_ARG_SRC, chosen.pd.src_desc(), source.buffer},
                          {DNNL_ARG_DIFF_WEIGHTS, chosen.pd.diff_weights_desc(), result.buffer},
                          {DNNL_ARG_DIFF_BIAS, chosen.pd.diff_bias_desc(), bias.buffer},
                          {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}})};
}

}  // namespace halfstep::onednn
