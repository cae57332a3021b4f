// ConvGradInput.
#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "executors/onednn/kernels/convolution.h"
#include "executors/onednn/kernels/winograd_convolution.h"

namespace halfstep::onednn {

Made make_convolution_grad_input(KernelContext& context) {
  const Value &dy = context.in(0), &w = context.in(1), &dx = context.out(0);
  if (!has_dnnl_rank(dx.shape)) return refuse("oneDNN convolutions have one to three spatial axes");
  const Convolution c = make_convolution_extents(context.node().attributes, dx.shape, w.shape, dy.shape);
  const DnnlWindow& window = c.window;
  using Pd = dnnl::convolution_backward_data::primitive_desc;
  Hints hints;
  const auto describe = [&](DType t, const Desc& source, const Desc& destination) {
    const auto hint = describe_convolution(c, dnnl::prop_kind::forward_training, t, DType::undefined, t, {});
    if (!hint.get(true)) return Pd();
    hints.push_back(hint);
    return Pd(engine(), dnnl::algorithm::convolution_direct, source, any_order(c.weights, t), destination,
              window.strides, window.dilation, window.pad_begin, window.pad_end, hint, user_scratchpad(), true);
  };
  const auto key = [&] { return key_of(c, "gradient of the input", dy.dtype, dx.dtype); };
  auto chosen = choose_primitive(
      dy.dtype, key, [&](DType t) { return describe(t, any_order(c.source, t), any_order(c.destination, t)); });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} convolution gradient of this form", name_of(dy.dtype)));
  const auto as_primitive = [&] { return primitive_candidate(chosen.pd, chosen.pd); };
  if (const auto plan = plan_winograd(c, WinogradPart::input_gradient, chosen.pd, chosen.dtype, key, as_primitive))
    return make_winograd_grad_input(context, *plan);
  // A kernel of one element is a product of matrices, for which oneDNN's best order gains less than the reorders to and
  // from it cost.
  const Layout lies = context.layout(0);
  const bool is_point = std::all_of(w.shape.begin() + 2, w.shape.end(), [](std::int64_t n) { return n == 1; });
  if (is_point && !lies.is_row_major() && layout_of(chosen.pd.diff_dst_desc()) != lies) {
    const Pd here =
        describe(chosen.dtype, resized(lies, c.source, chosen.dtype), desc_of(lies, dy.shape, chosen.dtype));
    if (here.get(true) && !mixes_pixels(here) &&
        std::string_view(here.impl_info_str()).find("1x1") != std::string_view::npos)
      chosen.pd = here;
  }

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
