// Makers of CumSum, CumProd, Resize and Resize's gradient, by generated kernels that go along one axis.
#include <algorithm>
#include <bit>
#include <span>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/axis_text.h"
#include "executors/cudnn/tensor_order.h"
#include "executors/cudnn/text_kernel.h"
#include "ops/movement/interpolation.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {

namespace {

using ops::AxisTaps;

/// For each element of the operand the results it is a tap of: the taps of the gradient.
AxisTaps transposed(const AxisTaps& taps, std::int64_t extent) {
  AxisTaps result(static_cast<std::size_t>(extent));
  for (std::size_t o = 0; o < taps.size(); ++o)
    for (const ops::Tap& tap : taps[o]) result[tap.index].push_back({static_cast<std::int64_t>(o), tap.weight});
  return result;
}

/// Whether each element is that of the operand.
bool is_identity(const AxisTaps& taps, std::int64_t extent) {
  if (static_cast<std::int64_t>(taps.size()) != extent) return false;
  for (std::size_t o = 0; o < taps.size(); ++o)
    if (taps[o].size() != 1 || taps[o][0].index != static_cast<std::int64_t>(o) || taps[o][0].weight != 1) return false;
  return true;
}

/// Numbers in the device's memory, put there at compile.
std::shared_ptr<const void> upload(KernelContext& context, std::span<const std::int32_t> numbers) {
  const std::shared_ptr<void> memory = context.device().allocate(numbers.size_bytes(), core::Space::device);
  context.device().move(DType::i32, {static_cast<std::int64_t>(numbers.size())},
                        {const_cast<std::int32_t*>(numbers.data()), core::Layout(), core::Space::host},
                        {memory.get(), core::Layout(), core::Space::device});
  return memory;
}

/// The interpolation along one axis.
struct Pass {
  std::shared_ptr<const LoadedKernel> kernel;
  std::shared_ptr<const void> table;  // starts, taps, weights
  ResampleArguments arguments{};
  std::size_t to = 0;  // in scratch; of all but the last

  void operator()(const void* from, void* to_address, cudaStream_t stream) const {
    ResampleArguments a = arguments;
    a.from = from;
    a.to = to_address;
    kernel->launch(blocks_for(a.count, 256), 256, as_argument(a), stream);
  }
};

Pass make_pass(KernelContext& context, const Shape& from, std::size_t axis, const AxisTaps& taps,
               std::string_view from_type, std::string_view to_type) {
  std::vector<std::int32_t> starts{0}, indices, weights;
  for (const std::vector<ops::Tap>& each : taps) {
    for (const ops::Tap& tap : each) {
      indices.push_back(static_cast<std::int32_t>(tap.index));
      weights.push_back(std::bit_cast<std::int32_t>(static_cast<float>(tap.weight)));
    }
    starts.push_back(static_cast<std::int32_t>(indices.size()));
  }
  std::vector<std::int32_t> all = starts;
  all.insert(all.end(), indices.begin(), indices.end());
  all.insert(all.end(), weights.begin(), weights.end());
  Pass pass;
  pass.table = upload(context, all);
  ResampleArguments& a = pass.arguments;
  a.starts = static_cast<const int*>(pass.table.get());
  a.taps = a.starts + starts.size();
  a.weights = reinterpret_cast<const float*>(a.taps + indices.size());
  a.from_extent = from[axis];
  a.to_extent = static_cast<std::int64_t>(taps.size());
  a.inner = from.count(axis + 1, from.rank());
  a.count = from.count() / a.from_extent * a.to_extent;
  pass.kernel =
      load_text(context, "resample", "ResampleArguments", kResampleArgumentsText,
                filled(kResampleText, {{"from", from_type}, {"to", to_type}, {"position", position_of(a.count)}}));
  return pass;
}

/// From input 0 to output 0, an axis at a time, in f32 between. `axes` and the tensors' are taken as they lie.
Made resample(KernelContext& context, std::vector<AxisTaps> axes) {
  const std::string_view type = float_name(context.in(0).dtype);
  const TensorOrder order = order_of(context.layout(0));
  const core::Layout layout = layout_in(order, context.in(0).shape);
  Shape shape = in_memory_order(layout, context.in(0).shape);
  if (order == TensorOrder::channels_last) std::rotate(axes.begin() + 1, axes.begin() + 2, axes.end());
  std::vector<std::size_t> changed;
  for (std::size_t axis = 0; axis < axes.size(); ++axis)
    if (!is_identity(axes[axis], shape[axis])) changed.push_back(axis);
  if (changed.empty()) changed.push_back(0);
  std::vector<Pass> passes;
  std::size_t scratch = 0;
  for (std::size_t i = 0; i < changed.size(); ++i) {
    const bool is_last = i + 1 == changed.size();
    const std::size_t axis = changed[i];
    passes.push_back(make_pass(context, shape, axis, axes[axis], i == 0 ? type : "float",
                               is_last ? type : std::string_view("float")));
    shape[axis] = static_cast<std::int64_t>(axes[axis].size());
    passes.back().to = scratch;
    if (!is_last) scratch += padded_bytes(bytes_of(DType::f32, shape));
  }
  return on_device(context, {.name = "generated: interpolation",
                             .launch =
                                 [passes](const Launch& l) {
                                   const void* from = l.in[0];
                                   for (const Pass& pass : passes) {
                                     void* to = &pass == &passes.back() ? l.out[0]
                                                                        : static_cast<std::byte*>(l.scratch) + pass.to;
                                     pass(from, to, l.stream);
                                     from = to;
                                   }
                                 },
                             .scratch_bytes = scratch,
                             .in_layouts = {layout},
                             .out_layouts = {layout_in(order, context.out(0).shape)}});
}

Tensor constant_of(KernelContext& context, std::size_t i) {
  return context.has_input(i) ? context.in(i).constant : Tensor();
}

/// Why there is no kernel; empty when there may be one.
std::string refusal_of(KernelContext& context) {
  for (std::size_t i = 1; i < context.node().inputs.size(); ++i)
    if (context.has_input(i) && !context.in(i).is_constant()) return "scales or sizes that are computed";
  if (float_name(context.in(0).dtype).empty()) return "elements that are not f32, f16 or bf16";
  if (context.in(0).shape.rank() == 0) return "a scalar";
  const std::string mode = context.node().attributes.get_string("coordinate_transformation_mode", "half_pixel");
  if (mode == "tf_crop_and_resize") return "a region of interest";
  return generation_refusal();
}

ops::Resizing resizing_of(KernelContext& context, const Shape& input) {
  return {context.node().attributes, input, constant_of(context, 1), constant_of(context, 2), constant_of(context, 3)};
}

}  // namespace

Made make_cum_sum(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const auto axes = context.constant_ints(1);
  if (!axes || axes->size() != 1) return refuse("an axis that is computed");
  const Shape& x = context.in(0).shape;
  const DType dtype = context.in(0).dtype;
  if (dtype == DType::boolean) return refuse("truth values are not summed");
  if (x.count() == 0) return refuse("no elements");
  const std::size_t axis = normalize_axis((*axes)[0], x.rank());
  const bool is_product = context.node().op == "CumProd";
  const auto kernel = load_text(context, "scan", "ScanArguments", kScanArgumentsText,
                                filled(kScanText, {{"element", element_name(dtype)},
                                                   {"unit", is_product ? "1" : "0"},
                                                   {"join", is_product ? "times" : "add"}}));
  const ScanArguments a{nullptr,
                        nullptr,
                        x.count() / x[axis],
                        x[axis],
                        x.count(axis + 1, x.rank()),
                        context.node().attributes.get_int("exclusive", 0) != 0,
                        context.node().attributes.get_int("reverse", 0) != 0};
  return on_device(context, {.name = is_product ? "generated: running product" : "generated: running sum",
                             .launch = [=](const Launch& l) {
                               ScanArguments with = a;
                               with.x = l.in[0];
                               with.y = l.out[0];
                               kernel->launch(blocks_for(a.lanes, 256), 256, as_argument(with), l.stream);
                             }});
}

Made make_resize(KernelContext& context) {
  if (std::string reason = refusal_of(context); !reason.empty()) return refuse(reason);
  return resample(context, resizing_of(context, context.in(0).shape).axes);
}

Made make_resize_grad(KernelContext& context) {
  if (std::string reason = refusal_of(context); !reason.empty()) return refuse(reason);
  const Shape& x = context.out(0).shape;
  std::vector<AxisTaps> axes = resizing_of(context, x).axes;
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (static_cast<std::int64_t>(axes[axis].size()) != context.in(0).shape[axis])
      return refuse("a gradient of another shape");
    axes[axis] = transposed(axes[axis], x[axis]);
  }
  return resample(context, std::move(axes));
}

}  // namespace halfstep::cudnn
