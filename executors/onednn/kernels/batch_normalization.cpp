// BatchNormalization in training and inference form, and its gradient, in the layout their tensor lies in.
#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/overwrite.h"
#include "executors/onednn/simd/batch_norm.h"
#include "ops/epilogue.h"

namespace halfstep::onednn {
namespace {

bool is_training(const Node& node) { return node.attributes.get_int("training_mode", 0) != 0; }

/// A layout that the kernels walk, and the extents of a tensor of shape `x` in it.
struct Walked {
  Layout layout;
  simd::BatchNormShape shape;
};

Walked walk_of(const Shape& x, const Layout& layout) {
  const auto together = layout.channels_together(x);
  if (!together) return walk_of(x, Layout());
  const std::int64_t channels = x[1], plane = x.count(2, x.rank());
  if (*together == channels || plane == 1) return {layout, {1, 1, x[0] * plane, channels, channels}};
  return {layout, {x[0], (channels + *together - 1) / *together, plane, *together, channels}};
}

simd::BatchNormKernel find_kernel(const Node& node, const Walked& walked, DType dtype) {
  return simd::find_batch_norm(walked.shape, node.attributes.get_float("epsilon", 1e-5F),
                               ops::clamp_of(node.attributes), dtype);
}

/// An f32 value for every channel, padding included.
Operand channel_values(KernelContext& context, const simd::BatchNormShape& shape) {
  Operand s{kNoBuffer, DType::f32, Shape{shape.stored_channels()}, Layout()};
  s.buffer = context.keep(s.bytes());
  return s;
}

/// running' = running * momentum + batch * (1 - momentum), as ONNX defines it.
struct RunningStatistics {
  float momentum;
  std::int64_t channels;
  Operand batch, old_running, new_running;

  Run operator()(const Memory& memory) const {
    return [m = momentum, n = channels, batch = memory.as<const float>(batch),
            from = memory.as<const float>(old_running), to = memory.as<float>(new_running)] {
      for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] * m + batch[i] * (1 - m);
    };
  }
};

Bind bind_statistics(const simd::BatchNormKernel& kernel, const Operand& x, const Operand& mean,
                     const Operand& variance, BufferId scratch) {
  return [=](const Memory& memory) -> Run {
    return [=, from = memory.at(x), m = memory.as<float>(mean), v = memory.as<float>(variance),
            temporary = memory.at(scratch)] { kernel.statistics(from, m, v, temporary); };
  };
}

}  // namespace

Made make_batch_normalization(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(0);
  if (x.shape.rank() < 2) return refuse("a tensor without an axis of channels");
  if (context.has_input(5)) return refuse("an addition behind the normalization");
  for (std::size_t i : {1, 2, 3, 4})
    if (!context.fits(i, {x.shape[1]})) return refuse("not one value for each channel");
  const auto clamp = ops::clamp_of(node.attributes);
  const bool keeps_padding = !clamp || clamp->keeps_zero() || !context.layout(0).is_padded();
  const Walked walked = walk_of(x.shape, keeps_padding ? context.layout(0) : Layout());
  const simd::BatchNormKernel kernel = find_kernel(node, walked, x.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(x.dtype)));

  const Operand source = context.read(0, walked.layout);
  const Operand scale = context.read(1, Layout(), DType::f32), shift = context.read(2, Layout(), DType::f32);
  const Operand running_mean = context.read(3, Layout(), DType::f32);
  const Operand running_variance = context.read(4, Layout(), DType::f32);
  const bool trains = is_training(node);
  Operand mean = running_mean, variance = running_variance;
  if (trains) {
    mean = channel_values(context, walked.shape);
    variance = channel_values(context, walked.shape);
  }
  // Where X is still needed for the gradient, it does not die here and Y gets memory of its own.
  const Operand result = context.write_over(0, source);
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  Bind run = [=](const Memory& memory) -> Run {
    return [=, from = memory.at(source), m = memory.as<float>(mean), v = memory.as<float>(variance),
            s = memory.as<const float>(scale), b = memory.as<const float>(shift), to = memory.at(result),
            temporary = memory.at(scratch)] {
      if (trains)
        kernel.normalize_by_own(from, s, b, m, v, to, temporary);
      else
        kernel.normalize(from, m, v, s, b, to, temporary);
    };
  };
  if (!trains) return {"simd", {}, std::move(run)};

  for (std::size_t i : {1, 2}) {
    if (!context.has_output(i)) continue;
    const Operand& old_running = i == 1 ? running_mean : running_variance;
    const Operand next = write_over_as_read(context, i, old_running);
    run = in_sequence(std::move(run),
                      RunningStatistics{node.attributes.get_float("momentum", 0.9F), walked.shape.channels,
                                        i == 1 ? mean : variance, old_running, next});
  }
  ForwardRecord& record = context.own_record();
  record.mean = mean;
  record.variance = variance;
  record.source = walked.layout;
  return {"simd", {}, std::move(run)};
}

Made make_batch_normalization_grad(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(1);
  if (x.shape.rank() < 2) return refuse("a tensor without an axis of channels");
  for (std::size_t i : {2, 3, 4, 5})
    if (!context.fits(i, {x.shape[1]})) return refuse("not one value for each channel");
  if (!context.fits(0, x.shape)) return refuse("operands of different shapes");
  const bool clamps = ops::clamp_of(node.attributes).has_value();
  if (clamps && !context.has_input(5)) return refuse("an activation without the normalization's bias");
  const bool trains = is_training(node);
  const ForwardRecord* record = trains ? forward_statistics(context) : nullptr;
  const Walked walked = walk_of(x.shape, record ? record->source : context.layout(1));
  const simd::BatchNormKernel kernel = find_kernel(node, walked, x.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(x.dtype)));

  const Operand diff = context.read(0, walked.layout), source = context.read(1, walked.layout);
  const Operand scale = context.read(2, Layout(), DType::f32);
  const Operand shift = clamps ? context.read(5, Layout(), DType::f32) : Operand();
  Operand mean, variance;
  if (record) {
    mean = record->mean;
    variance = record->variance;
    context.touch(mean.buffer);
    context.touch(variance.buffer);
  } else if (trains) {
    mean = channel_values(context, walked.shape);
    variance = channel_values(context, walked.shape);
  } else {
    mean = context.read(3, Layout(), DType::f32);
    variance = context.read(4, Layout(), DType::f32);
  }
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  const Operand dx = context.has_output(0) ? context.write_over(0, diff) : Operand();
  const Operand dscale = context.has_output(1) ? context.write(1, Layout(), DType::f32) : Operand();
  const Operand dshift = context.has_output(2) ? context.write(2, Layout(), DType::f32) : Operand();
  Bind run = [=](const Memory& memory) -> Run {
    return [=, d = memory.at(diff), from = memory.at(source), m = memory.as<const float>(mean),
            v = memory.as<const float>(variance), s = memory.as<const float>(scale), b = memory.as<const float>(shift),
            to = memory.at(dx), ds = memory.as<float>(dscale), db = memory.as<float>(dshift),
            temporary = memory.at(scratch)] { kernel.gradient(d, from, m, v, s, b, trains, to, ds, db, temporary); };
  };
  if (trains && !record) run = in_sequence(bind_statistics(kernel, source, mean, variance, scratch), std::move(run));
  return {"simd", {}, std::move(run)};
}

}  // namespace halfstep::onednn
