// Depthwise convolutions that oneDNN would leave to matrix products of single channels, such as those whose kernels are
// larger than the image.
#include <array>

#include "executors/onednn/kernels/convolution.h"
#include "executors/onednn/kernels/then_epilogue.h"
#include "executors/onednn/simd/depthwise.h"

namespace halfstep::onednn {
namespace {

using Tag = dnnl::memory::format_tag;

/// The orders that oneDNN's own depthwise kernels like: channels in blocks, or all together.
struct Order {
  std::int64_t together;               ///< 0: all
  std::array<Tag, 2> images, weights;  ///< with one spatial axis, with two
};
constexpr Order kOrders[] = {
    {16, {Tag::nCw16c, Tag::nChw16c}, {Tag::Goiw16g, Tag::Goihw16g}},
    {8, {Tag::nCw8c, Tag::nChw8c}, {Tag::Goiw8g, Tag::Goihw8g}},
    {0, {Tag::nwc, Tag::nhwc}, {Tag::wigo, Tag::hwigo}},
};

struct Layouts {
  Layout source, weights, destination;
};
Layouts layouts_of(const Convolution& c, const Order& order) {
  const std::size_t axes = c.source.size() - 3;
  auto layout = [](const Dims& dims, Tag tag) { return layout_of(Desc(dims, DataType::f32, tag)); };
  return {layout(c.source, order.images[axes]), layout(c.weights, order.weights[axes]),
          layout(c.destination, order.images[axes])};
}

/// The order that input `i`, the source, lies in; that of blocks of 16 when it is another.
const Order& order_of(KernelContext& context, std::size_t i, const Convolution& c) {
  for (const Order& order : kOrders)
    if (layouts_of(c, order).source == context.layout(i)) return order;
  return kOrders[0];
}

simd::DepthwiseKernel kernel_of(const Convolution& c, const Order& order, bool relu) {
  // One spatial axis is a row of an image.
  auto pair = [](const Dims& dims, std::int64_t missing) {
    return simd::DepthwiseShape::Pair{dims.size() > 1 ? dims.end()[-2] : missing, dims.back()};
  };
  auto spatial = [](const Dims& dims) { return Dims(dims.begin() + 2, dims.end()); };
  simd::DepthwiseShape shape;
  shape.images = c.source[0];
  shape.channels = c.channels_out;
  shape.together = order.together == 0 ? shape.channels : order.together;
  shape.in = pair(spatial(c.source), 1);
  shape.out = pair(spatial(c.destination), 1);
  shape.kernel = pair(c.window.kernel, 1);
  shape.strides = pair(c.window.strides, 1);
  shape.dilations = pair(c.window.dilation, 0);
  for (std::int64_t& dilation : shape.dilations) ++dilation;
  shape.pads = pair(c.window.pad_begin, 0);
  shape.relu = relu;
  return simd::find_depthwise(shape);
}

}  // namespace

bool is_depthwise(const Convolution& c) {
  const bool grouped = c.weights.size() == c.source.size() + 1;
  return grouped && c.weights[1] == 1 && c.weights[2] == 1 && c.source.size() <= 4;
}

bool prefers_depthwise_kernel(const Convolution& c, const dnnl::primitive_desc_base& pd, DType dtype,
                              const std::function<std::string()>& key, const std::function<Candidate()>& other) {
  if (!is_depthwise(c)) return false;
  const bool lacks = is_slow(pd);
  // Padding of other channels is left to the rule: what follows may have to keep it zero.
  if (!tuner() || dtype != DType::f32 || c.channels_out % kOrders[0].together != 0) return lacks;
  const bool is_gradient = pd.query_md(dnnl::query::diff_weights_md, 0).get_ndims() > 0;
  const Candidate own{"simd", [&c, is_gradient] {
                        const Layouts layouts = layouts_of(c, kOrders[0]);
                        return [is_gradient, kernel = kernel_of(c, kOrders[0], false),
                                x = filled_memory(desc_of(layouts.source, Shape(c.source), DType::f32)),
                                w = filled_memory(desc_of(layouts.weights, Shape(c.weights), DType::f32)),
                                y = filled_memory(desc_of(layouts.destination, Shape(c.destination), DType::f32))] {
                          const auto at = [](const dnnl::memory& m) {
                            return static_cast<float*>(m.get_data_handle());
                          };
                          if (is_gradient)
                            kernel.gradient(at(y), at(x), at(w), nullptr);
                          else
                            kernel.forward(at(x), at(w), nullptr, nullptr, at(y));
                        };
                      }};
  return tuner()->takes_second(key() + ", maker", other(), own, lacks);
}

Made make_depthwise_convolution(KernelContext& context, const Convolution& c, const ops::Epilogue& last) {
  const DType dtype = context.in(0).dtype;
  const Order& order = order_of(context, 0, c);
  const Layouts layouts = layouts_of(c, order);
  if (layouts.destination.is_padded() && !last.keeps_zero()) return refuse("an activation that would change padding");
  const Operand x = context.read(0, layouts.source, DType::f32);
  const Operand w = context.read(1, layouts.weights, DType::f32);
  const Operand bias = context.read(2, Layout(), DType::f32);
  const Operand residual = context.read(3, layouts.destination, DType::f32);
  const Operand y = context.write(0, layouts.destination, DType::f32);
  const bool relu = last.kind == ops::Epilogue::Kind::relu;  // the kernel's own; others follow it
  Bind run = [=, kernel = kernel_of(c, order, relu)](const Memory& memory) -> Run {
    return [=, from = memory.as<const float>(x), weights = memory.as<const float>(w),
            shift = memory.as<const float>(bias), added = memory.as<const float>(residual),
            to = memory.as<float>(y)] { kernel.forward(from, weights, shift, added, to); };
  };
  return {"simd", conversion_remark(dtype, DType::f32), relu ? std::move(run) : then(std::move(run), last, y)};
}

Made make_depthwise_grad_weight(KernelContext& context, const Convolution& c, ValueId bias_gradient) {
  const DType dtype = context.in(0).dtype;
  const Order& order = order_of(context, 1, c);
  const Layouts layouts = layouts_of(c, order);
  const Operand diff = context.read(0, layouts.destination, DType::f32);
  const Operand source = context.read(1, layouts.source, DType::f32);
  const Operand result = context.write(0, layouts.weights, DType::f32);
  Operand bias;
  if (bias_gradient != kNoValue) bias = context.write_value(bias_gradient, Layout(), DType::f32);
  return {"simd", conversion_remark(dtype, DType::f32),
          [=, kernel = kernel_of(c, order, false)](const Memory& memory) -> Run {
            return [=, dy = memory.as<const float>(diff), x = memory.as<const float>(source),
                    dw = memory.as<float>(result), db = memory.as<float>(bias)] { kernel.gradient(dy, x, dw, db); };
          }};
}

}  // namespace halfstep::onednn
