// The nodes at the end of a training step: norm of the gradients, loss scale, parameter updates.
#include "executors/onednn/simd/optimizer.h"

#include <algorithm>

#include "executors/onednn/kernels/kernels.h"
#include "ops/optimizer.h"

namespace halfstep::onednn {
namespace {

bool all_f32(KernelContext& context, std::size_t first) {
  for (std::size_t i = first; i < context.node().inputs.size(); ++i)
    if (context.in(i).dtype != DType::f32) return false;
  return true;
}

std::vector<std::int64_t> stored_sizes(const std::vector<Operand>& operands) {
  std::vector<std::int64_t> sizes;
  for (const Operand& o : operands) sizes.push_back(o.stored());
  return sizes;
}

/// Inputs [first, first + n), each in the layout of `like[i]`.
std::vector<Operand> read_like(KernelContext& context, std::size_t first, const std::vector<Operand>& like) {
  std::vector<Operand> result;
  for (std::size_t i = 0; i < like.size(); ++i) result.push_back(context.read(first + i, like[i].layout));
  return result;
}
std::vector<Operand> write_over(KernelContext& context, std::size_t first, const std::vector<Operand>& in) {
  std::vector<Operand> result;
  for (std::size_t i = 0; i < in.size(); ++i) {
    Operand out = context.write_over(first + i, in[i]);
    // What nothing reads still has to go somewhere.
    if (!out) out.buffer = context.scratch(in[i].bytes());
    result.push_back(out);
  }
  return result;
}

/// The four scalars an optimizer step starts with.
struct Scalars {
  Operand lr, step, apply, factor;

  explicit Scalars(KernelContext& context)
      : lr(context.read(0, Layout())),
        step(context.read(1, Layout())),
        apply(context.read(2, Layout())),
        factor(context.read(3, Layout())) {}
  simd::OptimizerScalars at(const Memory& memory) const {
    return {memory.as<const float>(lr), memory.as<const std::int64_t>(step), memory.as<const bool>(apply),
            memory.as<const float>(factor)};
  }
};

/// After the scalars: parameters, gradients, and as many further inputs as outputs besides the parameters'.
std::size_t parameter_count(const Node& node) { return node.inputs.size() - 4 - node.outputs.size(); }

}  // namespace

Made make_global_norm(KernelContext& context) {
  if (!all_f32(context, 0)) return refuse("gradients that are not f32");
  std::vector<Operand> gradients;
  for (std::size_t i = 0; i < context.node().inputs.size(); ++i) gradients.push_back(context.read(i));
  const simd::TensorList list(stored_sizes(gradients));
  Operand norm = context.write(0, Layout()), finite = context.write(1, Layout());
  if (!norm) norm.buffer = context.scratch(sizeof(float));
  if (!finite) finite.buffer = context.scratch(sizeof(bool));
  const BufferId scratch = context.scratch(simd::global_norm_scratch_bytes(list));
  return {"simd", {}, [=](const Memory& memory) -> Run {
            std::vector<const float*> tensors;
            for (const Operand& g : gradients) tensors.push_back(memory.as<const float>(g));
            return [=, n = memory.as<float>(norm), f = memory.as<bool>(finite), s = memory.at(scratch)] {
              simd::global_norm(list, tensors, n, f, s);
            };
          }};
}

Made make_loss_scale_update(KernelContext& context) {
  if (context.in(0).dtype != DType::f32) return refuse("a scale that is not f32");
  const Attributes& attributes = context.node().attributes;
  const float growth = attributes.get_float("growth_factor", 2), backoff = attributes.get_float("backoff_factor", 0.5F);
  const float least = attributes.get_float("min", 1), most = attributes.get_float("max", 16777216);
  const std::int64_t interval = attributes.get_int("growth_interval", 2000);
  const Operand scale = context.read(0, Layout()), good = context.read(1, Layout()), finite = context.read(2, Layout());
  const std::vector<Operand> next = write_over(context, 0, {scale, good});
  return {"native", {}, [=](const Memory& memory) -> Run {
            return [=, s = memory.as<const float>(scale), g = memory.as<const std::int64_t>(good),
                    f = memory.as<const bool>(finite), s_next = memory.as<float>(next[0]),
                    g_next = memory.as<std::int64_t>(next[1])] {
              const float now = *s;
              const std::int64_t steps = *f ? *g + 1 : 0;
              const bool grows = *f && steps >= interval;
              *s_next = std::clamp(!*f ? now * backoff : grows ? now * growth : now, least, most);
              *g_next = grows ? 0 : steps;
            };
          }};
}

Made make_adam_step(KernelContext& context) {
  const Node& node = context.node();
  if (!all_f32(context, 4) || context.in(0).dtype != DType::f32) return refuse("parameters that are not f32");
  simd::AdamParams params;
  const ops::AdamSettings settings(node.attributes);
  params.beta1 = settings.beta1;
  params.beta2 = settings.beta2;
  params.epsilon = settings.epsilon;
  params.weight_decay = settings.weight_decay;
  params.decoupled = settings.decoupled;

  const Scalars scalars(context);
  const std::size_t n = parameter_count(node);
  std::vector<Operand> p;
  for (std::size_t i = 0; i < n; ++i) p.push_back(context.read(4 + i));
  const std::vector<Operand> g = read_like(context, 4 + n, p), m = read_like(context, 4 + 2 * n, p),
                             v = read_like(context, 4 + 3 * n, p);
  const std::vector<Operand> p_out = write_over(context, 0, p), m_out = write_over(context, n, m),
                             v_out = write_over(context, 2 * n, v);
  const simd::TensorList list(stored_sizes(p));
  return {"simd", {}, [=](const Memory& memory) -> Run {
            std::vector<simd::AdamTensor> tensors(n);
            for (std::size_t i = 0; i < n; ++i)
              tensors[i] = {memory.as<const float>(p[i]), memory.as<const float>(g[i]),
                            memory.as<const float>(m[i]), memory.as<const float>(v[i]),
                            memory.as<float>(p_out[i]),   memory.as<float>(m_out[i]),
                            memory.as<float>(v_out[i]),   nullptr};
            return [=, s = scalars.at(memory)] { simd::adam_step(list, tensors, s, params); };
          }};
}

Made make_sgd_step(KernelContext& context) {
  const Node& node = context.node();
  if (!all_f32(context, 4) || context.in(0).dtype != DType::f32) return refuse("parameters that are not f32");
  simd::SgdParams params;
  const ops::SgdSettings settings(node.attributes);
  params.momentum = settings.momentum;
  params.dampening = settings.dampening;
  params.weight_decay = settings.weight_decay;
  params.nesterov = settings.nesterov;

  const Scalars scalars(context);
  const std::size_t n = parameter_count(node);
  const bool has_momentum = node.outputs.size() > n;
  std::vector<Operand> p;
  for (std::size_t i = 0; i < n; ++i) p.push_back(context.read(4 + i));
  const std::vector<Operand> g = read_like(context, 4 + n, p);
  const std::vector<Operand> b = has_momentum ? read_like(context, 4 + 2 * n, p) : std::vector<Operand>();
  const std::vector<Operand> p_out = write_over(context, 0, p), b_out = write_over(context, n, b);
  const simd::TensorList list(stored_sizes(p));
  return {"simd", {}, [=](const Memory& memory) -> Run {
            std::vector<simd::SgdTensor> tensors(n);
            for (std::size_t i = 0; i < n; ++i) {
              tensors[i] = {memory.as<const float>(p[i]),
                            memory.as<const float>(g[i]),
                            nullptr,
                            memory.as<float>(p_out[i]),
                            nullptr,
                            nullptr};
              if (!has_momentum) continue;
              tensors[i].b = memory.as<const float>(b[i]);
              tensors[i].b_out = memory.as<float>(b_out[i]);
            }
            return [=, s = scalars.at(memory)] { simd::sgd_step(list, tensors, s, params); };
          }};
}

}  // namespace halfstep::onednn
