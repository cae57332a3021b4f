// ConvTranspose by oneDNN's deconvolution.

#include <fmt/format.h>

#include "executors/onednn/kernels/convolution.h"

namespace halfstep::onednn {

Made make_convolution_transpose(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  const Value &x = context.in(0), &w = context.in(1), &y = context.out(0);
  if (!has_dnnl_rank(x.shape)) return refuse("oneDNN deconvolutions have one to three spatial axes");
  if (attributes.has("output_shape") || attributes.get_string("auto_pad", "NOTSET") != "NOTSET")
    return refuse("pads that follow from the output's extents");
  // The convolution that goes from Y back to X. ONNX's weights are that one's; oneDNN's have the two axes of channels
  // the other way round.
  const Convolution c = make_convolution_extents(attributes, y.shape, w.shape, x.shape);
  const int channels = attributes.get_int("group", 1) > 1 ? 1 : 0;
  auto swapped = [channels](auto values) {
    std::swap(values[channels], values[static_cast<std::size_t>(channels) + 1]);
    return values;
  };
  std::vector<int> swap(c.weights.size());
  for (std::size_t i = 0; i < swap.size(); ++i) swap[i] = static_cast<int>(i);
  swap = swapped(std::move(swap));

  const bool has_bias = context.has_input(2);
  if (!context.fits(2, {y.shape[1]})) return refuse("a bias that does not fit");
  const auto kind = context.has_gradient() ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
  const DnnlWindow& window = c.window;
  const auto chosen = choose_primitive(x.dtype, [&](DType t) {
    const Desc bias = has_bias ? any_order({y.shape[1]}, DType::f32) : Desc();
    return dnnl::deconvolution_forward::primitive_desc(engine(), kind, dnnl::algorithm::deconvolution_direct,
                                                       any_order(c.destination, t), any_order(swapped(c.weights), t),
                                                       bias, any_order(c.source, t), window.strides, window.dilation,
                                                       window.pad_begin, window.pad_end, user_scratchpad(), true);
  });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} deconvolution of this form", name_of(x.dtype)));

  const Operand source = context.read(0, layout_of(chosen.pd.src_desc()), chosen.dtype);
  const Operand weights = context.read(1, layout_of(chosen.pd.weights_desc().permute_axes(swap)), chosen.dtype);
  const Operand bias = has_bias ? context.read(2, Layout(), DType::f32) : Operand();
  const Operand result = context.write(0, layout_of(chosen.pd.dst_desc()), chosen.dtype);
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  return {kernel_name(chosen.pd), conversion_remark(x.dtype, chosen.dtype),
          bind_primitive(dnnl::deconvolution_forward(chosen.pd),
                         {{DNNL_ARG_SRC, chosen.pd.src_desc(), source.buffer},
                          {DNNL_ARG_WEIGHTS, chosen.pd.weights_desc(), weights.buffer},
                          {DNNL_ARG_BIAS, chosen.pd.bias_desc(), bias.buffer},
                          {DNNL_ARG_DST, chosen.pd.dst_desc(), result.buffer},
                          {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}})};
}

}  // namespace halfstep::onednn
