// Makers of pooling: cuDNN where it defines the same thing as ONNX, own kernels for the rest and for the gradients.
#include "executors/cudnn/kernels/pooling.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "executors/cudnn/descriptors.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/pending_failure.h"

namespace halfstep::cudnn {
namespace {

ops::Window geometry(const Node& node, const Shape& x) {
  const auto extents = ops::spatial(x);
  if (node.op.starts_with("Global")) {
    // A window has three axes at most, and over all of more it does not matter how they are arranged.
    const std::int64_t plane = x.count(2, x.rank());
    const auto whole = x.rank() <= 5 ? extents : std::span(&plane, 1);
    return ops::make_window({}, whole, whole);
  }
  return ops::make_window(node.attributes, extents, node.attributes.get_ints("kernel_shape"));
}

Window kernel_window(const ops::Window& w, std::int64_t together) {
  Window k;
  k.together = together;
  std::ranges::copy(w.input, k.in);
  std::ranges::copy(w.output, k.out);
  std::ranges::copy(w.kernel, k.kernel);
  std::ranges::copy(w.stride, k.stride);
  std::ranges::copy(w.dilation, k.dilation);
  std::ranges::copy(w.pad_begin, k.pad_begin);
  std::ranges::copy(w.pad_end, k.pad_end);
  return k;
}

/// cudnnPoolingForward counts images in a dimension of its grid that ends there.
constexpr std::int64_t kMaxImages = 65536;

bool is_max(const Node& node) { return node.op.find("Max") != std::string::npos; }
bool includes_pad(const Node& node) { return node.attributes.get_int("count_include_pad", 0) != 0; }

using LaunchPooling = std::function<void(const Launch&)>;

/// Of a functor over the elements of output 0, given the addresses.
template <class F>
LaunchPooling over_results(KernelContext& context, F functor) {
  return [functor, count = context.out(0).shape.count()](const Launch& l) {
    launch_elements(functor(l), count, l.stream);
  };
}

template <class T>
LaunchPooling own_pooling(KernelContext& context, const Window& window) {
  if (is_max(context.node()))
    return over_results(context, [window](const Launch& l) {
      return MaxPool<T>{l.input<T>(0), l.output<T>(0), l.output<std::int64_t>(1), window};
    });
  return over_results(context, [window, pad = includes_pad(context.node())](const Launch& l) {
    return AveragePool<T>{l.input<T>(0), l.output<T>(0), window, pad};
  });
}
/// Forward, by own kernels, all operands in that order; empty for types that they do not take.
LaunchPooling own_pooling(KernelContext& context, TensorOrder order) {
  const Shape& x = context.in(0).shape;
  const Window window = kernel_window(geometry(context.node(), x), channels_together(order, x));
  switch (context.in(0).dtype) {
    case DType::f32:
      return own_pooling<float>(context, window);
    case DType::f16:
      return own_pooling<f16>(context, window);
    case DType::bf16:
      return own_pooling<bf16>(context, window);
    default:
      return {};
  }
}

/// The order in which the input of the forward pass lies, or else the output's gradient.
TensorOrder order_of_operands(KernelContext& context) {
  for (std::size_t i = context.node().inputs.size(); i-- > 0;)
    if (order_of(context.layout(i)) == TensorOrder::channels_last) return TensorOrder::channels_last;
  return TensorOrder::row_major;
}

/// The node by own kernels, all operands in one order.
Made run_own(KernelContext& context, TensorOrder order, LaunchPooling launch) {
  const Node& node = context.node();
  std::vector<core::Layout> in;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) in.push_back(layout_in(order, context.in(i).shape));
  return on_device(
      context, {.name = "own: pooling",
                .launch = std::move(launch),
                .in_layouts = std::move(in),
                .out_layouts = std::vector<core::Layout>(node.outputs.size(), layout_in(order, context.out(0).shape))});
}

}  // namespace

Made make_pool_cudnn(KernelContext& context) {
  const ops::Window w = geometry(context.node(), context.in(0).shape);
  if (context.has_output(1)) return refuse("cuDNN gives no indices of the maxima");
  if (w.pad_begin != w.pad_end) return refuse("cuDNN pads both ends alike");
  for (std::size_t axis = 0; axis < w.kernel.size(); ++axis)
    if (w.pad_begin[axis] >= w.kernel[axis]) return refuse("cuDNN wants pads smaller than the window");
  // Its extents are rounded towards 0, and so up where the window is larger than the padded input.
  for (std::size_t axis = 0; axis < w.kernel.size(); ++axis)
    if (w.kernel[axis] > w.input[axis] + w.pad_begin[axis] + w.pad_end[axis])
      return refuse("cuDNN wants windows that end within the pads");
  if (w.dilation != ops::Window::Axes{1, 1, 1}) return refuse("cuDNN's pooling has no dilations");
  const Shape &x = context.in(0).shape, &y = context.out(0).shape;
  if (x.rank() < 3 || x.rank() > 5) return refuse("cuDNN pools one to three spatial axes");
  if (!data_type(context.in(0).dtype)) return refuse("cuDNN pools f32, f16 and bf16");
  if (x[0] >= kMaxImages) return refuse("cuDNN pools fewer than 65536 images");

  const cudnnPoolingMode_t mode = is_max(context.node())         ? CUDNN_POOLING_MAX_DETERMINISTIC
                                  : includes_pad(context.node()) ? CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING
                                                                 : CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING;
  const TensorOrder order = order_of(context.layout(0));
  auto x_desc = share(tensor_descriptor(context.in(0).dtype, x, order));
  auto y_desc = share(tensor_descriptor(context.out(0).dtype, y, order));
  auto pool = share(pooling_descriptor(mode, w, x.rank()));
  int found[5] = {};
  const int rank = static_cast<int>(std::max<std::size_t>(x.rank(), 4));
  check(cudnnGetPoolingNdForwardOutputDim(pool->get(), x_desc->get(), rank, found),
        "cudnnGetPoolingNdForwardOutputDim");
  for (int axis = 2; axis < rank; ++axis)
    if (found[axis] != w.output[axis + 5 - rank - 2]) return refuse("cuDNN rounds the output's extents down");

  // Which types and orders it takes it says only when it runs: from then on own kernels compute what it refuses.
  const auto launch = [=, handle = libraries(context).cudnn.get(), own = own_pooling(context, order),
                       is_refused = std::make_shared<bool>(false)](const Launch& l) {
    const float one = 1, zero = 0;
    if (!*is_refused && cudnnPoolingForward(handle, pool->get(), &one, x_desc->get(), l.in[0], &zero, y_desc->get(),
                                            l.out[0]) == CUDNN_STATUS_SUCCESS)
      return;
    if (!std::exchange(*is_refused, true)) forget_failure();
    own(l);
  };
  return on_device(context, {.name = "cudnn: pooling",
                             .launch = launch,
                             .in_layouts = {layout_in(order, x)},
                             .out_layouts = {layout_in(order, y)}});
}

Made make_pool_own(KernelContext& context) {
  if (context.has_output(1) && context.node().attributes.get_int("storage_order", 0) != 0)
    return refuse("indices in column-major order");
  const TensorOrder order = order_of(context.layout(0));
  LaunchPooling launch = own_pooling(context, order);
  if (!launch) return refuse("own kernels pool f32, f16 and bf16, not " + std::string(name_of(context.in(0).dtype)));
  return run_own(context, order, std::move(launch));
}

Made make_pool_grad(KernelContext& context) {
  const Shape& x = context.out(0).shape;
  const TensorOrder order = order_of_operands(context);
  const Window window = kernel_window(geometry(context.node(), x), channels_together(order, x));
  return visit_float(context.in(0).dtype, [&]<class T>() -> Made {
    if (is_max(context.node()))
      return run_own(context, order, over_results(context, [window](const Launch& l) {
                       return MaxPoolGrad<T>{l.input<T>(0), l.input<T>(1), l.output<T>(0), window};
                     }));
    return run_own(context, order, over_results(context, [window, pad = includes_pad(context.node())](const Launch& l) {
                     return AveragePoolGrad<T>{l.input<T>(0), l.output<T>(0), window, pad};
                   }));
  });
}

}  // namespace halfstep::cudnn
