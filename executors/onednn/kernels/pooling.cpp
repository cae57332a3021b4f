// AveragePool with its gradient.
#include <algorithm>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/window.h"

namespace halfstep::onednn {
namespace {

struct Pooling {
  dnnl::algorithm algorithm;
  Dims source, destination;
  DnnlWindow window;
};

using Forward = dnnl::pooling_forward::primitive_desc;
using Backward = dnnl::pooling_backward::primitive_desc;

Forward describe(const Pooling& p, dnnl::prop_kind kind, const Desc& source, const Desc& destination) {
  const DnnlWindow& w = p.window;
  return Forward(engine(), kind, p.algorithm, source, destination, w.strides, w.kernel, w.dilation, w.pad_begin,
                 w.pad_end, user_scratchpad(), true);
}

constexpr std::int64_t kMostPadding = 64;  // extents of a window to one of the input

/// The node's pooling, or why oneDNN has none such.
std::string make_pooling(const Node& node, const Shape& x, const Shape& y, Pooling& p) {
  const Attributes& attributes = node.attributes;
  if (x.rank() < 3 || x.rank() > 5) return "oneDNN pools one to three spatial axes";
  // A global pooling's window is the whole input.
  const Dims kernel = attributes.get_ints("kernel_shape", Dims(x.begin() + 2, x.end()));
  p.source = dims_of(x);
  p.destination = dims_of(y);
  p.window = make_dnnl_window(attributes, x, kernel, y);
  const bool with_padding = attributes.get_int("count_include_pad", 0) != 0;
  p.algorithm =
      with_padding ? dnnl::algorithm::pooling_avg_include_padding : dnnl::algorithm::pooling_avg_exclude_padding;
  // What ceil_mode adds beyond the pads does not count as padding in ONNX, but does in oneDNN.
  if (with_padding && !has_plain_pads(attributes, x, p.window)) return "ceil_mode with count_include_pad";
  for (std::size_t i = 0; i < kernel.size(); ++i) {
    const std::int64_t reach = (kernel[i] - 1) * (p.window.dilation[i] + 1) + 1;
    // oneDNN walks over all of the padding.
    if (kernel[i] > kMostPadding * x[i + 2]) return "windows of almost nothing but padding";
    if (p.window.pad_begin[i] >= reach || p.window.pad_end[i] >= reach) return "windows that lie in the padding alone";
    p.window.pad_end[i] = std::max<std::int64_t>(p.window.pad_end[i], 0);
  }
  return {};
}

Backward describe_grad(const Pooling& p, const Desc& source, const Desc& destination) {
  const Forward hint = describe(p, dnnl::prop_kind::forward_training, source, destination);
  if (!hint.get(true)) return Backward();
  const DnnlWindow& w = p.window;
  return Backward(engine(), p.algorithm, source, destination, w.strides, w.kernel, w.dilation, w.pad_begin, w.pad_end,
                  hint, user_scratchpad(), true);
}

}  // namespace

Made make_average_pool(KernelContext& context) {
  const Value &x = context.in(0), &y = context.out(0);
  Pooling p;
  if (std::string reason = make_pooling(context.node(), x.shape, y.shape, p); !reason.empty()) return refuse(reason);
  const Layout layout = context.layout(0);
  const auto chosen = choose_primitive(x.dtype, [&](DType t) {
    return describe(p, dnnl::prop_kind::forward_inference, desc_of(layout, x.shape, t), any_order(p.destination, t));
  });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} pooling of this form", name_of(x.dtype)));
  const Operand source = context.read(0, layout, chosen.dtype);
  const Operand result = context.write(0, layout_of(chosen.pd.dst_desc()), chosen.dtype);
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  return {
      kernel_name(chosen.pd), conversion_remark(x.dtype, chosen.dtype),
      bind_primitive(dnnl::pooling_forward(chosen.pd), {{DNNL_ARG_SRC, chosen.pd.src_desc(), source.buffer},
                                                        {DNNL_ARG_DST, chosen.pd.dst_desc(), result.buffer},
                                                        {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}})};
}

Made make_global_average_pool(KernelContext& context) {
  if (context.layout(0).is_permutation()) return refuse({});  // a mean over whole rows or columns
  return make_average_pool(context);
}

Made make_average_pool_grad(KernelContext& context) {
  const Value &dy = context.in(0), &dx = context.out(0);
  Pooling p;
  if (std::string reason = make_pooling(context.node(), dx.shape, dy.shape, p); !reason.empty()) return refuse(reason);
  const Layout layout = context.layout(0);
  const auto chosen = choose_primitive(dy.dtype, [&](DType t) {
    const Forward hint =
        describe(p, dnnl::prop_kind::forward_training, any_order(p.source, t), desc_of(layout, dy.shape, t));
    return hint.get(true) ? describe_grad(p, hint.src_desc(), desc_of(layout, dy.shape, t)) : Backward();
  });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} pooling gradient of this form", name_of(dy.dtype)));
  const Operand diff = context.read(0, layout, chosen.dtype);
  const Operand result = context.write(0, layout_of(chosen.pd.diff_src_desc()), chosen.dtype);
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  return {
      kernel_name(chosen.pd), conversion_remark(dy.dtype, chosen.dtype),
      bind_primitive(dnnl::pooling_backward(chosen.pd), {{DNNL_ARG_DIFF_DST, chosen.pd.diff_dst_desc(), diff.buffer},
                                                         {DNNL_ARG_DIFF_SRC, chosen.pd.diff_src_desc(), result.buffer},
                                                         {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}})};
}

}  // namespace halfstep::onednn
