// MaxPool and its gradient by SIMD kernels, channels together in memory.
#include "executors/onednn/simd/max_pool.h"

#include <fmt/format.h>

#include "executors/core/same_elements.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/window.h"

namespace halfstep::onednn {
namespace {

using Tag = dnnl::memory::format_tag;

constexpr std::int64_t kFewChannels = 8;  // fewer lie in planes of their own
constexpr std::int64_t kMostTaps = std::int64_t{1} << 30;

/// How a pooling walks its tensors.
struct Walk {
  Layout source, destination;
  simd::MaxPoolShape shape;
};

/// NCHW with channels in blocks.
Layout blocked(const Shape& x) {
  constexpr Tag k8[] = {Tag::nCw8c, Tag::nChw8c, Tag::nCdhw8c}, k16[] = {Tag::nCw16c, Tag::nChw16c, Tag::nCdhw16c};
  return layout_of(Desc(dims_of(x), DataType::f32, (x[1] < 16 ? k8 : k16)[x.rank() - 3]));
}

/// The node's pooling of x, which lies in `layout`, to y; or why there is no kernel for it.
std::string make_walk(const Node& node, const Shape& x, const Shape& y, const Layout& layout, Walk& walk) {
  if (x.rank() < 3 || x.rank() > 5) return "maxima over other than one to three spatial axes";
  if (node.attributes.get_int("storage_order", 0) != 0) return "column-major indices";
  const std::size_t axes = x.rank() - 2;
  const Dims kernel = node.attributes.get_ints("kernel_shape", Dims(x.begin() + 2, x.end()));
  const DnnlWindow window = make_dnnl_window(node.attributes, x, kernel, y);
  simd::MaxPoolShape& s = walk.shape;
  for (std::size_t i = 0; i < axes; ++i) {
    const std::size_t axis = 3 - axes + i;
    s.in[axis] = x[i + 2];
    s.out[axis] = y[i + 2];
    s.kernel[axis] = kernel[i];
    s.strides[axis] = window.strides[i];
    s.dilations[axis] = window.dilation[i] + 1;
    s.pads[axis] = window.pad_begin[i];
  }
  for (std::size_t axis = 0; axis < 3; ++axis)
    if (s.kernel[axis] > (kMostTaps >> 10) || s.taps() > kMostTaps) return "a window of too many elements";

  walk.source = layout;
  std::optional<std::int64_t> together = layout.channels_together(x);
  if (!together || (*together == 1 && x[1] >= kFewChannels)) {
    walk.source = x[1] >= kFewChannels ? blocked(x) : Layout();
    together = walk.source.channels_together(x);
  }
  s.together = *together;
  s.planes = x[0] * ((x[1] + *together - 1) / *together);
  walk.destination = layout_of(resized(walk.source, dims_of(y), DType::f32));
  return {};
}

/// The type a gradient is summed up in: half types would round each sum.
DType gradient_type(const simd::MaxPoolShape& shape, DType dtype) { return shape.overlaps() ? DType::f32 : dtype; }

/// The forward node's record when a kernel of this file pooled this node's input.
const ForwardRecord* pooled(KernelContext& context) {
  const ForwardRecord* record = core::record_of_same_x(context);
  return record && record->workspace != kNoBuffer ? record : nullptr;
}

Bind run_forward(const simd::MaxPoolKernel& kernel, BufferId x, BufferId y, BufferId places) {
  return [=](const Memory& memory) -> Run {
    return [=, from = memory.at(x), to = memory.at(y), at = memory.at(places)] { kernel.forward(from, to, at); };
  };
}

}  // namespace

Made make_max_pool(KernelContext& context) {
  const Value &x = context.in(0), &y = context.out(0);
  if (context.has_output(1)) return refuse("indices of maxima");
  Walk walk;
  if (std::string reason = make_walk(context.node(), x.shape, y.shape, context.layout(0), walk); !reason.empty())
    return refuse(reason);
  const simd::MaxPoolKernel kernel = simd::find_max_pool(walk.shape, x.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(x.dtype)));
  const Operand source = context.read(0, walk.source), result = context.write(0, walk.destination);
  BufferId places = kNoBuffer;
  if (context.has_gradient()) {
    places = context.keep(kernel.places_bytes());
    ForwardRecord& record = context.own_record();
    record.workspace = places;
    record.source = walk.source;
    record.destination = walk.destination;
    record.computed = x.dtype;
  }
  return {"simd", {}, run_forward(kernel, source.buffer, result.buffer, places)};
}

Made make_max_pool_grad(KernelContext& context) {
  const Value &dy = context.in(0), &x = context.in(1);
  const ForwardRecord* record = pooled(context);
  Walk walk;
  const Layout layout = record ? record->source : context.layout(1);
  if (std::string reason = make_walk(context.node(), x.shape, dy.shape, layout, walk); !reason.empty())
    return refuse(reason);
  const DType type = gradient_type(walk.shape, dy.dtype);
  const simd::MaxPoolKernel kernel = simd::find_max_pool(walk.shape, type);
  if (!kernel || !simd::find_max_pool(walk.shape, dy.dtype))
    return refuse(fmt::format("no SIMD kernel for {}", name_of(dy.dtype)));
  BufferId places = kNoBuffer;
  Bind again;
  const Operand diff = context.read(0, walk.destination, type);
  if (record) {
    places = record->workspace;
    context.touch(places);
  } else {
    const Operand source = context.read(1, walk.source);
    places = context.scratch(kernel.places_bytes());
    again = run_forward(simd::find_max_pool(walk.shape, x.dtype), source.buffer,
                        context.scratch(bytes_of(x.dtype, static_cast<std::size_t>(diff.stored()))), places);
  }
  const Operand result = context.write(0, walk.source, type);
  Bind run = [=](const Memory& memory) -> Run {
    return [=, up = memory.at(diff), at = memory.at(places), to = memory.at(result)] { kernel.gradient(up, at, to); };
  };
  if (again) run = in_sequence(std::move(again), std::move(run));
  return {"simd", {}, std::move(run)};
}

}  // namespace halfstep::onednn
