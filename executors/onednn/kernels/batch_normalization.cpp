// BatchNormalization in training and inference form, and its gradient.
#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"

namespace halfstep::onednn {
namespace {

using Flags = dnnl::normalization_flags;
using Forward = dnnl::batch_normalization_forward::primitive_desc;
using Backward = dnnl::batch_normalization_backward::primitive_desc;

Flags flags(bool global_statistics) {
  const Flags affine = Flags::use_scale | Flags::use_shift;
  return global_statistics ? affine | Flags::use_global_stats : affine;
}

Forward describe(dnnl::prop_kind kind, const Desc& source, const Desc& destination, float epsilon, bool global) {
  return Forward(engine(), kind, source, destination, epsilon, flags(global), user_scratchpad(), true);
}

bool is_training(const Node& node) { return node.attributes.get_int("training_mode", 0) != 0; }
float epsilon_of(const Node& node) { return node.attributes.get_float("epsilon", 1e-5F); }

bool has_dnnl_rank(const Shape& x) { return x.rank() >= 2 && x.rank() <= 5; }

/// Operand of C statistics in f32, for this kernel alone.
Operand statistics(KernelContext& context, std::int64_t channels) {
  Operand s{kNoBuffer, DType::f32, Shape{channels}, Layout()};
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

}  // namespace

Made make_batch_normalization(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(0);
  if (!has_dnnl_rank(x.shape)) return refuse("oneDNN normalizes tensors of 2 to 5 axes");
  const bool trains = is_training(node);
  const float epsilon = epsilon_of(node);
  const auto kind = trains ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
  const Layout layout = context.layout(0);
  const auto chosen = choose_primitive(x.dtype, [&](DType t) {
    const Desc d = layout.desc(x.shape, t);
    return describe(kind, d, d, epsilon, !trains);
  });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} batch normalization of this form", name_of(x.dtype)));

  const std::int64_t channels = x.shape[1];
  const Operand source = context.read(0, layout, chosen.dtype);
  const Operand scale = context.read(1, Layout(), DType::f32), shift = context.read(2, Layout(), DType::f32);
  const Operand running_mean = context.read(3, Layout(), DType::f32);
  const Operand running_variance = context.read(4, Layout(), DType::f32);
  const Operand result = context.write(0, layout, chosen.dtype);
  Operand mean = running_mean, variance = running_variance;
  std::vector<Bind> after;
  if (trains) {
    mean = statistics(context, channels);
    variance = statistics(context, channels);
    const float momentum = node.attributes.get_float("momentum", 0.9F);
    for (std::size_t i : {1, 2}) {
      if (!context.has_output(i)) continue;
      const Operand& old_running = i == 1 ? running_mean : running_variance;
      const Operand next = context.out(i).dtype == DType::f32 ? context.write_over(i, old_running)
                                                              : context.write(i, Layout(), DType::f32);
      after.emplace_back(RunningStatistics{momentum, channels, i == 1 ? mean : variance, old_running, next});
    }
    ForwardRecord& record = context.own_record();
    record.mean = mean;
    record.variance = variance;
    record.source = layout;
    record.computed = chosen.dtype;
  }
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  const Desc c = row_major(Shape{channels}, DType::f32);
  Bind run = bind_primitive(dnnl::batch_normalization_forward(chosen.pd),
                            {{DNNL_ARG_SRC, chosen.pd.src_desc(), source.buffer},
                             {DNNL_ARG_SCALE, c, scale.buffer},
                             {DNNL_ARG_SHIFT, c, shift.buffer},
                             {DNNL_ARG_MEAN, c, mean.buffer},
                             {DNNL_ARG_VARIANCE, c, variance.buffer},
                             {DNNL_ARG_DST, chosen.pd.dst_desc(), result.buffer},
                             {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}});
  for (Bind& update : after) run = in_sequence(std::move(run), std::move(update));
  return {kernel_name(chosen.pd), conversion_remark(x.dtype, chosen.dtype), std::move(run)};
}

namespace {

/// Computes the statistics of the source anew.
Bind statistics_again(KernelContext& context, const Operand& source, const Operand& scale, float epsilon,
                      const Operand& mean, const Operand& variance) {
  const Desc d = source.desc(), c = row_major(mean.shape, DType::f32);
  const Forward pd = describe(dnnl::prop_kind::forward_training, d, d, epsilon, false);
  const BufferId unused = context.scratch(d.get_size()), scratch = context.scratch(pd.scratchpad_desc().get_size());
  return bind_primitive(dnnl::batch_normalization_forward(pd), {{DNNL_ARG_SRC, d, source.buffer},
                                                                {DNNL_ARG_SCALE, c, scale.buffer},
                                                                {DNNL_ARG_SHIFT, c, scale.buffer},
                                                                {DNNL_ARG_MEAN, c, mean.buffer},
                                                                {DNNL_ARG_VARIANCE, c, variance.buffer},
                                                                {DNNL_ARG_DST, d, unused},
                                                                {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), scratch}});
}

}  // namespace

Made make_batch_normalization_grad(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(1);
  if (!has_dnnl_rank(x.shape)) return refuse("oneDNN normalizes tensors of 2 to 5 axes");
  const bool trains = is_training(node);
  const float epsilon = epsilon_of(node);
  const ForwardRecord* record = trains ? forward_statistics(context) : nullptr;
  const Layout layout = record ? record->source : context.layout(1);
  const auto chosen = choose_primitive(x.dtype, [&](DType t) {
    const Desc d = layout.desc(x.shape, t);
    const auto kind = trains ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    const Forward hint = describe(kind, d, d, epsilon, !trains);
    if (!hint.get(true)) return Backward();
    return Backward(engine(), dnnl::prop_kind::backward, d, d, d, epsilon, flags(!trains), hint, user_scratchpad(),
                    true);
  });
  if (!chosen)
    return refuse(fmt::format("oneDNN has no {} batch normalization gradient of this form", name_of(x.dtype)));

  const std::int64_t channels = x.shape[1];
  const Operand diff = context.read(0, layout, chosen.dtype), source = context.read(1, layout, chosen.dtype);
  const Operand scale = context.read(2, Layout(), DType::f32);
  Operand mean, variance;
  Bind before;
  if (record) {
    mean = record->mean;
    variance = record->variance;
    context.touch(mean.buffer);
    context.touch(variance.buffer);
  } else if (trains) {
    mean = statistics(context, channels);
    variance = statistics(context, channels);
    before = statistics_again(context, source, scale, epsilon, mean, variance);
  } else {
    mean = context.read(3, Layout(), DType::f32);
    variance = context.read(4, Layout(), DType::f32);
  }
  // oneDNN writes all three, whether or not the graph reads them.
  auto result = [&](std::size_t i, const Layout& to, DType dtype, std::size_t bytes) {
    const Operand o = context.write(i, to, dtype);
    return o ? o.buffer : context.scratch(bytes);
  };
  const std::size_t vector_bytes = static_cast<std::size_t>(channels) * sizeof(float);
  const BufferId dx = result(0, layout, chosen.dtype, chosen.pd.diff_src_desc().get_size());
  const BufferId dscale = result(1, Layout(), DType::f32, vector_bytes);
  const BufferId dshift = result(2, Layout(), DType::f32, vector_bytes);
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  const Desc c = row_major(Shape{channels}, DType::f32);
  Bind run = bind_primitive(dnnl::batch_normalization_backward(chosen.pd),
                            {{DNNL_ARG_SRC, chosen.pd.src_desc(), source.buffer},
                             {DNNL_ARG_DIFF_DST, chosen.pd.diff_dst_desc(), diff.buffer},
                             {DNNL_ARG_SCALE, c, scale.buffer},
                             {DNNL_ARG_MEAN, c, mean.buffer},
                             {DNNL_ARG_VARIANCE, c, variance.buffer},
                             {DNNL_ARG_DIFF_SRC, chosen.pd.diff_src_desc(), dx},
                             {DNNL_ARG_DIFF_SCALE, c, dscale},
                             {DNNL_ARG_DIFF_SHIFT, c, dshift},
                             {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}});
  if (before) run = in_sequence(std::move(before), std::move(run));
  return {kernel_name(chosen.pd), conversion_remark(x.dtype, chosen.dtype), std::move(run)};
}

}  // namespace halfstep::onednn
