#include "executors/onednn/kernels/winograd_convolution.h"

#include <algorithm>
#include <utility>

#include <omp.h>

#include "executors/onednn/kernels/overwrite.h"
#include "executors/onednn/kernels/then_epilogue.h"
#include "executors/onednn/math_mode.h"

namespace halfstep::onednn {
namespace {

constexpr const char* kName = "simd: winograd";

/// The size of blocks that all channels are in, none of them padded; else 0.
std::int64_t block_of(const Layout& layout, const Dims& dims) {
  if (layout.order().blocks.size() != 1 || layout.is_padded()) return 0;
  return layout.channels_together(Shape(dims)).value_or(0);
}

/// Where the convolution has square kernels without stride and operands lie in blocks of channels.
std::optional<WinogradPlan> plan_of(const Convolution& c, WinogradPart part, const dnnl::primitive_desc_base& pd) {
  const DnnlWindow& window = c.window;
  const Dims one{1, 1}, none{0, 0};
  if (c.source.size() != 4 || c.weights.size() != 4 || window.kernel[0] != window.kernel[1] || window.strides != one ||
      window.dilation != none)
    return std::nullopt;
  using dnnl::query;
  const bool of_input = part == WinogradPart::input_gradient, of_weights = part == WinogradPart::weight_gradient;
  WinogradPlan plan{part,
                    {},
                    layout_of(pd.query_md(of_input ? query::diff_src_md : query::src_md)),
                    layout_of(pd.query_md(of_weights ? query::diff_weights_md : query::weights_md)),
                    layout_of(pd.query_md(part == WinogradPart::forward ? query::dst_md : query::diff_dst_md))};
  simd::WinogradShape& shape = plan.shape;
  const std::int64_t kernel = shape.kernel = window.kernel[0];
  const std::int64_t block = shape.together = block_of(plan.source, c.source);
  const Layout::Order& order = plan.weights.order();
  // The channels of what is written are the last block's.
  const Dims axes = of_input ? Dims{0, 1} : Dims{1, 0};
  if (block == 0 || block_of(plan.destination, c.destination) != block || plan.weights.is_padded() ||
      order.blocks != Dims{block, block} || order.block_axes != axes || order.strides[2] != kernel * block * block ||
      order.strides[3] != block * block || !simd::has_winograd(kernel, block))
    return std::nullopt;
  const auto extents = [](const Dims& dims) { return simd::WinogradShape::Pair{dims[2], dims[3]}; };
  shape.images = c.source[0];
  shape.channels_in = c.source[1];
  shape.channels_out = c.destination[1];
  shape.in = extents(c.source);
  shape.out = extents(c.destination);
  shape.pads = {window.pad_begin[0], window.pad_begin[1]};
  shape.weights_in_step = order.strides[1];
  shape.weights_out_step = order.strides[0];
  if (of_input) {
    std::swap(shape.channels_in, shape.channels_out);
    std::swap(shape.in, shape.out);
    std::swap(shape.weights_in_step, shape.weights_out_step);
    for (std::int64_t& pad : shape.pads) pad = kernel - 1 - pad;
    shape.is_flipped = true;
  }
  return plan;
}

/// Whether it takes clearly less time by an estimate in multiplications of products, of which to transform a number at
/// a point takes as long as kTransform, measured with AVX-512 and AVX2.
bool is_faster(const simd::WinogradShape& s) {
  constexpr std::int64_t kTransform = 10, kPanel = 32;
  const std::int64_t columns = (s.channels_out + kPanel - 1) / kPanel * kPanel;
  const std::int64_t products = s.tile_count() * s.channels_in * columns;
  const std::int64_t numbers = s.tile_count() * (s.channels_in + s.channels_out) + s.channels_in * s.channels_out;
  const std::int64_t direct = s.taps() * s.images * s.out[0] * s.out[1] * s.channels_in * s.channels_out;
  return 10 * direct > 11 * s.points() * (products + kTransform * numbers);
}

/// Whether a tap of the kernel meets padding alone. Its gradient is exactly 0, which sums of transformed pixels are
/// not.
bool has_idle_taps(const simd::WinogradShape& s) {
  for (std::size_t axis = 0; axis < 2; ++axis)
    if (s.pads[axis] >= s.out[axis] || s.kernel - 1 - s.pads[axis] >= s.in[axis]) return true;
  return false;
}

/// Whether sums of many threads for a gradient of weights would take more memory than is worth the time.
bool takes_too_much(const simd::WinogradShape& s) {
  constexpr std::int64_t kMost = 4, kLittle = 16 << 20;  // times its operands; numbers that are always granted
  const std::int64_t operands = s.images * (s.channels_in * s.in[0] * s.in[1] + s.channels_out * s.out[0] * s.out[1]) +
                                s.taps() * s.channels_in * s.channels_out;
  const std::size_t scratch = simd::WinogradWeightGradient(s, omp_get_max_threads()).scratch_bytes();
  return scratch > static_cast<std::size_t>(std::max(kMost * operands, kLittle)) * sizeof(float);
}

Candidate candidate_of(const WinogradPlan& plan) {
  return {kName, [plan]() -> Run {
            const auto memory_of = [](const Layout& layout) {
              return filled_memory(desc_of(layout, Shape(layout.dims()), DType::f32));
            };
            const auto scratch_of = [](const auto& kernel) {
              return filled_memory(
                  row_major(Dims{static_cast<std::int64_t>(kernel.scratch_bytes() / sizeof(float))}, DType::f32));
            };
            const auto at = [](const dnnl::memory& memory) { return static_cast<float*>(memory.get_data_handle()); };
            const dnnl::memory x = memory_of(plan.source), w = memory_of(plan.weights), y = memory_of(plan.destination);
            if (plan.part == WinogradPart::weight_gradient) {
              const simd::WinogradWeightGradient kernel(plan.shape, omp_get_max_threads());
              const dnnl::memory scratch = scratch_of(kernel);
              return [=] { kernel(at(y), at(x), at(w), nullptr, at(scratch)); };
            }
            const simd::Winograd kernel(plan.shape, omp_get_max_threads());
            const dnnl::memory scratch = scratch_of(kernel);
            const bool of_input = plan.part == WinogradPart::input_gradient;
            return [=] { kernel({at(of_input ? y : x), at(w), nullptr, nullptr, at(of_input ? x : y)}, at(scratch)); };
          }};
}

Bind bind(KernelContext& context, const WinogradPlan& plan, const Operand& x, const Operand& w, const Operand& bias,
          const Operand& residual, const Operand& y) {
  const simd::Winograd kernel(plan.shape, omp_get_max_threads());
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  return [=](const Memory& memory) -> Run {
    const simd::WinogradOperands operands{memory.as<const float>(x), memory.as<const float>(w),
                                          memory.as<const float>(bias), memory.as<const float>(residual),
                                          memory.as<float>(y)};
    return [=, work = memory.as<float>(scratch)] { kernel(operands, work); };
  };
}

}  // namespace

std::optional<WinogradPlan> plan_winograd(const Convolution& c, WinogradPart part, const dnnl::primitive_desc_base& pd,
                                          DType dtype, const std::function<std::string()>& key,
                                          const std::function<Candidate()>& other) {
  if (dtype != DType::f32 || math_mode() != dnnl::fpmath_mode::strict) return std::nullopt;
  std::optional<WinogradPlan> plan = plan_of(c, part, pd);
  if (!plan) return std::nullopt;
  if (part == WinogradPart::weight_gradient && (has_idle_taps(plan->shape) || takes_too_much(plan->shape)))
    return std::nullopt;
  const bool by_rules = is_faster(plan->shape);
  const bool takes_it =
      tuner() ? tuner()->takes_second(key() + ", maker", other(), candidate_of(*plan), by_rules) : by_rules;
  if (!takes_it) plan.reset();
  return plan;
}

Made make_winograd_convolution(KernelContext& context, const WinogradPlan& plan, const ops::Epilogue& last) {
  const DType dtype = context.in(0).dtype;
  const Operand x = context.read(0, plan.source, DType::f32), w = context.read(1, plan.weights, DType::f32);
  const Operand bias = context.read(2, Layout(), DType::f32);
  const Operand residual = context.read(3, plan.destination, DType::f32);
  const Operand y =
      residual ? write_over_as_read(context, 0, residual) : context.write(0, plan.destination, DType::f32);
  return {kName, conversion_remark(dtype, DType::f32), then(bind(context, plan, x, w, bias, residual, y), last, y)};
}

Made make_winograd_grad_input(KernelContext& context, const WinogradPlan& plan) {
  const Operand dy = context.read(0, plan.destination, DType::f32), w = context.read(1, plan.weights, DType::f32);
  const Operand dx = context.write(0, plan.source, DType::f32);
  return {kName, conversion_remark(context.in(0).dtype, DType::f32),
          bind(context, plan, dy, w, Operand(), Operand(), dx)};
}

Made make_winograd_grad_weight(KernelContext& context, const WinogradPlan& plan, ValueId bias) {
  const Operand diff = context.read(0, plan.destination, DType::f32);
  const Operand source = context.read(1, plan.source, DType::f32);
  const Operand result = context.write(0, plan.weights, DType::f32);
  Operand sum;
  if (bias != kNoValue) sum = context.write_value(bias, Layout(), DType::f32);
  const simd::WinogradWeightGradient kernel(plan.shape, omp_get_max_threads());
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  return {kName, conversion_remark(context.in(0).dtype, DType::f32), [=](const Memory& memory) -> Run {
            return [=, dy = memory.as<const float>(diff), x = memory.as<const float>(source),
                    dw = memory.as<float>(result), db = memory.as<float>(sum),
                    work = memory.as<float>(scratch)] { kernel(dy, x, dw, db, work); };
          }};
}

}  // namespace halfstep::onednn
