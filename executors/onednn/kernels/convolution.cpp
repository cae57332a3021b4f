// Conv and FusedConv (the residual as post-operation).
#include "executors/onednn/kernels/convolution.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executors/onednn/kernels/overwrite.h"
#include "executors/onednn/kernels/then_epilogue.h"
#include "executors/onednn/kernels/winograd_convolution.h"
#include "executors/onednn/simd/elementwise.h"
#include "ops/convolution/convolution_kernels.h"

namespace halfstep::onednn {

Convolution make_convolution_extents(const Attributes& attributes, const Shape& input, const Shape& weights,
                                     const Shape& output) {
  ops::check_convolution(attributes, input, weights);
  Convolution c;
  c.source = dims_of(input);
  c.weights = dims_of(weights);
  c.destination = dims_of(output);
  c.channels_out = weights[0];
  const Dims kernel(c.weights.begin() + 2, c.weights.end());
  c.window = make_dnnl_window(attributes, input, kernel, output);
  // A convolution with stride may leave a rest of the input unread.
  for (std::size_t i = 0; i < kernel.size(); ++i) c.window.pad_end[i] = std::max<std::int64_t>(c.window.pad_end[i], 0);
  const std::int64_t groups = attributes.get_int("group", 1);
  if (groups > 1) {
    c.weights[0] /= groups;
    c.weights.insert(c.weights.begin(), groups);
  }
  return c;
}

dnnl::convolution_forward::primitive_desc describe_convolution(const Convolution& c, dnnl::prop_kind kind, DType dtype,
                                                               DType bias, DType out,
                                                               const dnnl::primitive_attr& attr) {
  const Desc b = bias == DType::undefined ? Desc() : any_order({c.channels_out}, bias);
  return dnnl::convolution_forward::primitive_desc(engine(), kind, dnnl::algorithm::convolution_direct,
                                                   any_order(c.source, dtype), any_order(c.weights, dtype), b,
                                                   any_order(c.destination, out), c.window.strides, c.window.dilation,
                                                   c.window.pad_begin, c.window.pad_end, attr, true);
}

std::string key_of(const Convolution& c, const std::string& name, DType dtype, DType out) {
  const DnnlWindow& w = c.window;
  return fmt::format("{} {} {} {} to {} {}, strides {} dilation {} pads {} {}", name, name_of(dtype), c.source,
                     c.weights, name_of(out), c.destination, w.strides, w.dilation, w.pad_begin, w.pad_end);
}

Made make_convolution(KernelContext& context) {
  const Node& node = context.node();
  const Value &x = context.in(0), &y = context.out(0);
  if (!has_dnnl_rank(x.shape)) return refuse("oneDNN convolutions have one to three spatial axes");
  const Convolution c = make_convolution_extents(node.attributes, x.shape, context.in(1).shape, y.shape);
  const bool has_bias = context.has_input(2), has_residual = context.has_input(3);
  if (!context.fits(2, {c.channels_out}) || !context.fits(3, y.shape))
    return refuse("a bias or residual that does not fit");

  dnnl::primitive_attr attr = user_scratchpad();
  dnnl::post_ops post;
  if (has_residual) post.append_sum(1);
  const ops::Epilogue last = ops::epilogue_of(node.attributes);
  attr.set_post_ops(post);
  const auto kind = context.has_gradient() ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
  auto bias_type = [&](DType t) {
    if (!has_bias) return DType::undefined;
    return context.in(2).dtype == t ? t : DType::f32;
  };
  auto out_type = [&](DType t) { return t == x.dtype ? y.dtype : DType::f32; };
  const auto key = [&] {
    const std::string name = fmt::format("convolution{}{}{}", has_bias ? " with bias" : "",
                                         has_residual ? " and sum" : "", context.has_gradient() ? ", trained" : "");
    return key_of(c, name, x.dtype, y.dtype);
  };
  const auto chosen = choose_primitive(
      x.dtype, key, [&](DType t) { return describe_convolution(c, kind, t, bias_type(t), out_type(t), attr); });
  const auto as_primitive = [&] { return primitive_candidate(chosen.pd, chosen.pd); };
  if (chosen && prefers_depthwise_kernel(c, chosen.pd, x.dtype, key, as_primitive))
    return make_depthwise_convolution(context, c, last);
  if (chosen)
    if (const auto plan = plan_winograd(c, WinogradPart::forward, chosen.pd, chosen.dtype, key, as_primitive))
      return make_winograd_convolution(context, *plan, last);
  if (!chosen) return refuse(fmt::format("oneDNN has no {} convolution of this form", name_of(x.dtype)));
  const Layout out_layout = layout_of(chosen.pd.dst_desc());
  if (out_layout.is_padded() && !last.keeps_zero()) return refuse("an activation that would change padding");

  const Operand source = context.read(0, layout_of(chosen.pd.src_desc()), chosen.dtype);
  const Operand weights = context.read(1, layout_of(chosen.pd.weights_desc()), chosen.dtype);
  const Operand bias = has_bias ? context.read(2, Layout(), bias_type(chosen.dtype)) : Operand();
  const DType out = out_type(chosen.dtype);
  const Operand residual = has_residual ? context.read(3, out_layout, out) : Operand();
  const Operand result = has_residual ? write_over_as_read(context, 0, residual) : context.write(0, out_layout, out);
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  Bind run = bind_primitive(dnnl::convolution_forward(chosen.pd),
                            {{DNNL_ARG_SRC, chosen.pd.src_desc(), source.buffer},
                             {DNNL_ARG_WEIGHTS, chosen.pd.weights_desc(), weights.buffer},
                             {DNNL_ARG_BIAS, chosen.pd.bias_desc(), bias.buffer},
                             {DNNL_ARG_DST, chosen.pd.dst_desc(), result.buffer},
                             {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}});
  if (has_residual && residual.buffer != result.buffer) {
    // The sum post-operation adds to what the destination holds.
    const simd::UnaryKernel copy = simd::find_cast(out, out);
    run = [copy, residual, result, convolve = std::move(run)](const Memory& memory) -> Run {
      return [copy, from = memory.at(residual), to = memory.at(result), n = residual.stored(),
              convolve = convolve(memory)] {
        copy(from, to, n);
        convolve();
      };
    };
  }
  return {kernel_name(chosen.pd), conversion_remark(x.dtype, chosen.dtype), then(std::move(run), last, result)};
}

}  // namespace halfstep::onednn
