// The nodes at the end of a training step: norm of the gradients, loss scale, parameter updates.
#include "executors/onednn/simd/optimizer.h"

#include <algorithm>

#include "executors/onednn/kernels/kernels.h"
#include <halfstep/ops/optimizers/optimizer_def.h>

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
/// Outputs [first, first + n) over `in`.
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

/// What every optimizer updates: parameters, and their gradients in the parameters' layouts. After these two come as
/// many further inputs as there are outputs besides the parameters'.
struct Parameters {
  std::size_t n;
  std::vector<Operand> p, g, p_out;
  simd::TensorList list;

  explicit Parameters(KernelContext& context)
      : n(StepOperands(context.node()).parameters),
        p(read(context, n)),
        g(read_like(context, 4 + n, p)),
        p_out(write_over(context, 0, p)),
        list(stored_sizes(p)) {}

  static bool are_f32(KernelContext& context) { return all_f32(context, 4) && context.in(0).dtype == DType::f32; }

 private:
  static std::vector<Operand> read(KernelContext& context, std::size_t n) {
    std::vector<Operand> result;
    for (std::size_t i = 0; i < n; ++i) result.push_back(context.read(4 + i));
    return result;
  }
};

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
  if (!Parameters::are_f32(context)) return refuse("parameters that are not f32");
  simd::AdamParams params;
  const Hyperparameters h(*optimizer_of(context.node()), context.node().attributes);
  params.beta1 = h["beta1"];
  params.beta2 = h["beta2"];
  params.epsilon = h["epsilon"];
  params.weight_decay = h["weight_decay"];
  params.decoupled = context.node().op == "AdamWStep";

  const Scalars scalars(context);
  const Parameters of(context);
  const std::size_t n = of.n;
  const std::vector<Operand> m = read_like(context, 4 + 2 * n, of.p), v = read_like(context, 4 + 3 * n, of.p);
  const std::vector<Operand> m_out = write_over(context, n, m), v_out = write_over(context, 2 * n, v);
  return {"simd", {}, [=](const Memory& memory) -> Run {
            std::vector<simd::AdamTensor> tensors(n);
            for (std::size_t i = 0; i < n; ++i)
              tensors[i] = {memory.as<const float>(of.p[i]), memory.as<const float>(of.g[i]),
                            memory.as<const float>(m[i]),    memory.as<const float>(v[i]),
                            memory.as<float>(of.p_out[i]),   memory.as<float>(m_out[i]),
                            memory.as<float>(v_out[i])};
            return [=, s = scalars.at(memory)] { simd::adam_step(of.list, tensors, s, params); };
          }};
}

Made make_sgd_step(KernelContext& context) {
  if (!Parameters::are_f32(context)) return refuse("parameters that are not f32");
  simd::SgdParams params;
  const Hyperparameters h(*optimizer_of(context.node()), context.node().attributes);
  params.momentum = h["momentum"];
  params.dampening = h["dampening"];
  params.weight_decay = h["weight_decay"];
  params.nesterov = h["nesterov"] != 0;

  const Scalars scalars(context);
  const Parameters of(context);
  const std::size_t n = of.n;
  const bool has_momentum = context.node().outputs.size() > n;
  const std::vector<Operand> b = has_momentum ? read_like(context, 4 + 2 * n, of.p) : std::vector<Operand>();
  const std::vector<Operand> b_out = write_over(context, n, b);
  return {"simd", {}, [=](const Memory& memory) -> Run {
            std::vector<simd::SgdTensor> tensors(n);
            for (std::size_t i = 0; i < n; ++i) {
              tensors[i] = {memory.as<const float>(of.p[i]), memory.as<const float>(of.g[i]), nullptr,
                            memory.as<float>(of.p_out[i]), nullptr};
              if (!has_momentum) continue;
              tensors[i].b = memory.as<const float>(b[i]);
              tensors[i].b_out = memory.as<float>(b_out[i]);
            }
            return [=, s = scalars.at(memory)] { simd::sgd_step(of.list, tensors, s, params); };
          }};
}

}  // namespace halfstep::onednn
