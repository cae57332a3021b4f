// LayerNormalization of rows and its gradient by SIMD kernels, InstanceNormalization by oneDNN.
#include <algorithm>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/layer_norm.h"
#include "ops/normalization/one_row.h"

namespace halfstep::onednn {
namespace {

float epsilon_of(const Node& node) { return node.attributes.get_float("epsilon", 1e-5F); }

/// Rows of n elements, n those of the axes from `axis` on.
simd::LayerNormParams rows_of(const Shape& x, std::int64_t axis, float epsilon) {
  const std::size_t first = normalize_axis(axis, x.rank());
  return {x.count(0, first), x.count(first, x.rank()), epsilon};
}

/// An f32 value for every row.
Operand row_statistics(KernelContext& context, const simd::LayerNormParams& rows) {
  Operand s{kNoBuffer, DType::f32, Shape{rows.rows}, Layout()};
  s.buffer = context.keep(s.bytes());
  return s;
}

}  // namespace

Made make_layer_normalization(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(0);
  if (x.shape.rank() == 0) return refuse("a scalar");
  const std::int64_t axis = node.attributes.get_int("axis", -1);
  const simd::LayerNormParams rows = rows_of(x.shape, axis, epsilon_of(node));
  const simd::LayerNormKernel kernel = simd::find_layer_norm(rows, x.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(x.dtype)));
  for (std::size_t i : {1, 2})
    if (context.has_input(i) && (!ops::is_one_row(context.in(i).shape, x.shape, normalize_axis(axis, x.shape.rank())) ||
                                 context.in(i).dtype != x.dtype))
      return refuse("a scale or bias that is not one row, or of another type");
  for (std::size_t i : {1, 2})
    if (context.has_output(i) && context.out(i).dtype != DType::f32) return refuse("statistics that are not f32");

  const Operand from = context.read(0, Layout()), scale = context.read(1, Layout()), bias = context.read(2, Layout());
  const Operand to = context.write(0, Layout());
  Operand mean, inverse_deviation;
  if (context.has_output(1) || context.has_output(2)) {
    if (context.has_output(1)) mean = context.write(1, Layout());
    if (context.has_output(2)) inverse_deviation = context.write(2, Layout());
  } else if (context.has_gradient()) {
    context.own_record().mean = mean = row_statistics(context, rows);
    context.own_record().variance = inverse_deviation = row_statistics(context, rows);
  }
  return {"simd", {}, [=](const Memory& memory) -> Run {
            return [=, a = memory.at(from), s = memory.at(scale), b = memory.at(bias), y = memory.at(to),
                    m = memory.as<float>(mean), r = memory.as<float>(inverse_deviation)] { kernel(a, s, b, y, m, r); };
          }};
}

Made make_layer_normalization_grad(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(1);
  if (x.shape.rank() == 0) return refuse("a scalar");
  const simd::LayerNormParams rows = rows_of(x.shape, -1, epsilon_of(node));
  const simd::LayerNormGradKernel kernel = simd::find_layer_norm_grad(rows, x.dtype);
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(x.dtype)));
  if (!context.fits(0, x.shape)) return refuse("operands of different shapes");
  if (!ops::is_one_row(context.in(2).shape, x.shape, x.shape.rank() - 1) || context.in(2).dtype != x.dtype)
    return refuse("a scale of another type than the rows, or that is not one");
  const ForwardRecord* record = forward_statistics(context);
  const Operand dy = context.read(0, Layout()), from = context.read(1, Layout()), scale = context.read(2, Layout());
  const Operand dx = context.write(0, Layout());
  const Operand dscale = context.has_output(1) ? context.write(1, Layout(), DType::f32) : Operand();
  const Operand dbias = context.has_output(2) ? context.write(2, Layout(), DType::f32) : Operand();
  const Operand mean = record ? record->mean : row_statistics(context, rows);
  const Operand inverse_deviation = record ? record->variance : row_statistics(context, rows);
  for (const Operand& statistics : {mean, inverse_deviation}) context.touch(statistics.buffer);
  const BufferId scratch = context.scratch(kernel.scratch_bytes());
  Bind run = [=](const Memory& memory) -> Run {
    return [=, d = memory.at(dy), a = memory.at(from), s = memory.at(scale), m = memory.as<float>(mean),
            r = memory.as<float>(inverse_deviation), to = memory.at(dx), ds = memory.as<float>(dscale),
            db = memory.as<float>(dbias),
            temporary = memory.at(scratch)] { kernel(d, a, s, m, r, to, ds, db, temporary); };
  };
  if (record) return {"simd", {}, std::move(run)};
  // The forward kernel once more, into where the gradient will be.
  Bind again = [=, forward = simd::find_layer_norm(rows, x.dtype)](const Memory& memory) -> Run {
    return [=, a = memory.at(from), s = memory.at(scale), y = memory.at(dx), m = memory.as<float>(mean),
            r = memory.as<float>(inverse_deviation)] { forward(a, s, nullptr, y, m, r); };
  };
  return {"simd", {}, in_sequence(std::move(again), std::move(run))};
}

Made make_instance_normalization(KernelContext& context) {
  const Value& x = context.in(0);
  if (x.shape.rank() < 3 || x.shape.rank() > 5) return refuse("oneDNN normalizes tensors of 3 to 5 axes");
  // Every channel of every image is a channel of one image.
  const std::int64_t images = x.shape[0], channels = x.shape[1], all = images * channels;
  if (!context.fits(1, {channels}) || !context.fits(2, {channels})) return refuse("not one value for each channel");
  Dims dims{1, all};
  dims.insert(dims.end(), x.shape.begin() + 2, x.shape.end());
  using Pd = dnnl::batch_normalization_forward::primitive_desc;
  const auto chosen = choose_primitive(x.dtype, [&](DType t) {
    const Desc d = row_major(dims, t);
    return Pd(engine(), dnnl::prop_kind::forward_training, d, d, epsilon_of(context.node()),
              dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift, user_scratchpad(), true);
  });
  if (!chosen) return refuse(fmt::format("oneDNN has no {} normalization of this form", name_of(x.dtype)));

  const Operand from = context.read(0, Layout(), chosen.dtype);
  const Operand scale = context.read(1, Layout(), DType::f32), bias = context.read(2, Layout(), DType::f32);
  const Operand to = context.write(0, Layout(), chosen.dtype);
  const Desc c = row_major(Dims{all}, DType::f32);
  const BufferId scales = context.scratch(c.get_size()), biases = context.scratch(c.get_size());
  const BufferId mean = context.scratch(c.get_size()), variance = context.scratch(c.get_size());
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  Bind repeat = [=](const Memory& memory) -> Run {
    return [=, s = memory.as<const float>(scale), b = memory.as<const float>(bias), ss = memory.as<float>(scales),
            bb = memory.as<float>(biases)] {
      for (std::int64_t i = 0; i < images; ++i) {
        std::copy_n(s, channels, ss + i * channels);
        std::copy_n(b, channels, bb + i * channels);
      }
    };
  };
  return {
      kernel_name(chosen.pd), conversion_remark(x.dtype, chosen.dtype),
      in_sequence(std::move(repeat), bind_primitive(dnnl::batch_normalization_forward(chosen.pd),
                                                    {{DNNL_ARG_SRC, chosen.pd.src_desc(), from.buffer},
                                                     {DNNL_ARG_SCALE, c, scales},
                                                     {DNNL_ARG_SHIFT, c, biases},
                                                     {DNNL_ARG_MEAN, c, mean},
                                                     {DNNL_ARG_VARIANCE, c, variance},
                                                     {DNNL_ARG_DST, chosen.pd.dst_desc(), to.buffer},
                                                     {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}}))};
}

}  // namespace halfstep::onednn
