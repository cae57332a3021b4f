#include "ops/optimizer.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "graph/error.h"
#include "ops/families.h"
#include "ops/kernel_util.h"
#include "ops/optimizer_schema.h"

namespace halfstep::ops {

AdamSettings::AdamSettings(const Attributes& a)
    : beta1(a.get_float("beta1", 0.9f)),
      beta2(a.get_float("beta2", 0.999f)),
      epsilon(a.get_float("epsilon", 1e-8f)),
      weight_decay(a.get_float("weight_decay", 0)),
      decoupled(a.get_int("decoupled", 0) != 0) {}

SgdSettings::SgdSettings(const Attributes& a)
    : momentum(a.get_float("momentum", 0)),
      dampening(a.get_float("dampening", 0)),
      weight_decay(a.get_float("weight_decay", 0)),
      nesterov(a.get_int("nesterov", 0) != 0) {}

LossScaleSettings::LossScaleSettings(const Attributes& a)
    : growth_factor(a.get_float("growth_factor", 2)),
      backoff_factor(a.get_float("backoff_factor", 0.5f)),
      min(a.get_float("min", 1)),
      max(a.get_float("max", 16777216)),
      growth_interval(a.get_int("growth_interval", 2000)) {}

namespace {

double single_number(const Tensor& tensor, const char* what) {
  if (tensor.count() != 1)
    throw_input_error(fmt::format("one number for {}", what), tensor.shape().to_string(), "check the training graph");
  return to_doubles(tensor)[0];
}

/// The operands of AdamStep or SgdStep: `groups` equally long lists of tensors (parameters, gradients, moments, ...)
/// behind the scalars. Tensor i of every list has the shape of parameter i.
struct OptimizerCall {
  double lr, grad_factor;
  std::int64_t step;
  bool apply;
  std::size_t parameters;

  OptimizerCall(const KernelCall& call, std::size_t groups) : call_(call) {
    const std::size_t tensors = call.in.size() - std::min(call.in.size(), kOptimizerScalars);
    parameters = tensors / groups;
    if (parameters == 0 || parameters * groups != tensors || call.out.size() != parameters * (groups - 1))
      throw_input_error(fmt::format("{} and {} tensors for each parameter in and out", groups, groups - 1),
                        fmt::format("{} and {}", tensors, call.out.size()), "check the training graph");
    lr = single_number(call.in[0], "the learning rate");
    step = single_int(call.in[1], "the step");
    apply = single_int(call.in[2], "apply") != 0;
    grad_factor = single_number(call.in[3], "the gradients' factor");
    if (step < 1) throw_input_error("steps counted from 1", std::to_string(step), "check the training graph");
  }

  const Tensor& in(std::size_t group, std::size_t i) const {
    return call_.in[kOptimizerScalars + group * parameters + i];
  }

  std::vector<double> read(std::size_t group, std::size_t i) const {
    if (in(group, i).shape() != in(0, i).shape())
      throw_input_error("gradients and moments of the parameter's shape " + in(0, i).shape().to_string(),
                        in(group, i).shape().to_string(), "check the training graph");
    return to_doubles(in(group, i));
  }

 private:
  const KernelCall& call_;
};

constexpr std::size_t kParameter = 0, kGradient = 1;

/// Index among the inputs' groups of the one that output group `g` replaces: all but the gradients.
std::size_t replaced_group(std::size_t g) { return g == kParameter ? kParameter : g + 1; }

/// Writes new values for parameter i, or the old ones bit for bit when the step is not applied.
void write(KernelCall& call, const OptimizerCall& c, std::size_t output_group, std::size_t i,
           const std::vector<double>& values) {
  const Tensor& old = c.in(replaced_group(output_group), i);
  const std::size_t index = output_group * c.parameters + i;
  if (!call.has_out(index)) return;
  Tensor& out = ensure_out(call, index, old.dtype(), old.shape());
  if (c.apply)
    store(out, values);
  else
    copy_elements(old, out);
}

/// What weight decay adds to a gradient: nothing where there is none, whatever the parameter is.
template <class Settings>
double decay(const Settings& settings, double parameter) {
  return settings.weight_decay == 0 ? 0 : settings.weight_decay * parameter;
}

void adam_step_kernel(KernelCall& call) {
  const AdamSettings s(call.node.attributes);
  const OptimizerCall c(call, 4);
  const double t = static_cast<double>(c.step);
  const double step_size = c.lr / (1 - std::pow(s.beta1, t));
  const double v_root = std::sqrt(1 - std::pow(s.beta2, t));
  for (std::size_t i = 0; i < c.parameters; ++i) {
    std::vector<double> p = c.read(kParameter, i), g = c.read(kGradient, i), m = c.read(2, i), v = c.read(3, i);
    for (std::size_t k = 0; k < p.size(); ++k) {
      double gradient = g[k] * c.grad_factor;
      if (s.decoupled)
        p[k] *= 1 - c.lr * s.weight_decay;
      else
        gradient += decay(s, p[k]);
      m[k] = s.beta1 * m[k] + (1 - s.beta1) * gradient;
      v[k] = s.beta2 * v[k] + (1 - s.beta2) * gradient * gradient;
      p[k] -= step_size * m[k] / (std::sqrt(v[k]) / v_root + s.epsilon);
    }
    write(call, c, 0, i, p);
    write(call, c, 1, i, m);
    write(call, c, 2, i, v);
  }
}

void sgd_step_kernel(KernelCall& call) {
  const SgdSettings s(call.node.attributes);
  const OptimizerCall c(call, s.has_buffers() ? 3 : 2);
  for (std::size_t i = 0; i < c.parameters; ++i) {
    std::vector<double> p = c.read(kParameter, i), g = c.read(kGradient, i);
    std::vector<double> buffer = s.has_buffers() ? c.read(2, i) : std::vector<double>{};
    for (std::size_t k = 0; k < p.size(); ++k) {
      double gradient = g[k] * c.grad_factor + decay(s, p[k]);
      if (s.has_buffers()) {
        buffer[k] = c.step == 1 ? gradient : s.momentum * buffer[k] + (1 - s.dampening) * gradient;
        gradient = s.nesterov ? gradient + s.momentum * buffer[k] : buffer[k];
      }
      p[k] -= c.lr * gradient;
    }
    write(call, c, 0, i, p);
    if (s.has_buffers()) write(call, c, 1, i, buffer);
  }
}

void global_norm_kernel(KernelCall& call) {
  double squares = 0;
  bool finite = true;
  for (const Tensor& gradient : call.in)
    for (double g : to_doubles(gradient)) {
      squares += g * g;
      finite = finite && std::isfinite(g);
    }
  if (call.has_out(0)) store(ensure_out(call, 0, DType::f32, Shape{}), std::vector<double>{std::sqrt(squares)});
  if (call.has_out(1)) *ensure_out(call, 1, DType::boolean, Shape{}).data<bool>() = finite;
}

void loss_scale_update_kernel(KernelCall& call) {
  const LossScaleSettings s(call.node.attributes);
  double scale = single_number(call.in[0], "the loss scale");
  std::int64_t good_steps = single_int(call.in[1], "the number of good steps");
  const bool finite = single_int(call.in[2], "finite") != 0;
  if (!finite) {
    scale *= s.backoff_factor;
    good_steps = 0;
  } else if (++good_steps >= s.growth_interval) {
    scale *= s.growth_factor;
    good_steps = 0;
  }
  scale = std::clamp(scale, s.min, s.max);
  if (call.has_out(0)) store(ensure_out(call, 0, call.in[0].dtype(), call.in[0].shape()), std::vector<double>{scale});
  if (call.has_out(1)) *ensure_out(call, 1, DType::i64, call.in[1].shape()).data<std::int64_t>() = good_steps;
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kGlobalNormCases = {
    {"(float[3,4] a, float[5] b, float c) => (float norm, bool finite) { norm, finite = ai.halfstep.GlobalNorm(a, b, "
     "c) }",
     -2, 2, false},
    {"(float[0] a) => (float norm, bool finite) { norm, finite = ai.halfstep.GlobalNorm(a) }", -2, 2, false},
};

const std::vector<OpCase> kLossScaleUpdateCases = {
    {"(float scale) => (float new_scale, int64 new_good) <int64 good = {1998}, bool finite = {1}> "
     "{ new_scale, new_good = ai.halfstep.LossScaleUpdate(scale, good, finite) }",
     1, 8, false},
    {"(float scale) => (float new_scale, int64 new_good) <int64 good = {1999}, bool finite = {1}> "
     "{ new_scale, new_good = ai.halfstep.LossScaleUpdate(scale, good, finite) }",
     1, 8, false},
    {"(float scale) => (float new_scale, int64 new_good) <int64 good = {7}, bool finite = {0}> "
     "{ new_scale, new_good = ai.halfstep.LossScaleUpdate<backoff_factor = 0.25, min = 2.0>(scale, good, finite) }",
     1, 8, false},
};

const std::vector<OpCase> kAdamStepCases = {
    {"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] m, float[2,3] v) "
     "=> (float[2,3] np, float[2,3] nm, float[2,3] nv) <int64 t = {1}, bool apply = {1}> "
     "{ np, nm, nv = ai.halfstep.AdamStep(lr, t, apply, f, p, g, m, v) }",
     0.01, 1, false},
    {"(float lr, float f, float[2] p1, float[5] p2, float[2] g1, float[5] g2, float[2] m1, float[5] m2, float[2] v1, "
     "float[5] v2) => (float[2] np1, float[5] np2, float[2] nm1, float[5] nm2, float[2] nv1, float[5] nv2) "
     "<int64 t = {10}, bool apply = {1}> { np1, np2, nm1, nm2, nv1, nv2 = ai.halfstep.AdamStep"
     "<weight_decay = 0.1, decoupled = 1, beta1 = 0.8>(lr, t, apply, f, p1, p2, g1, g2, m1, m2, v1, v2) }",
     0.01, 1, false},
    {"(float lr, float f, float[3] p, float[3] g, float[3] m, float[3] v) => (float[3] np, float[3] nm, float[3] nv) "
     "<int64 t = {3}, bool apply = {0}> "
     "{ np, nm, nv = ai.halfstep.AdamStep<weight_decay = 0.1>(lr, t, apply, f, p, g, m, v) }",
     0.01, 1, false},
};

const std::vector<OpCase> kSgdStepCases = {
    {"(float lr, float f, float[2,3] p, float[4] q, float[2,3] g, float[4] h) => (float[2,3] np, float[4] nq) "
     "<int64 t = {5}, bool apply = {1}> "
     "{ np, nq = ai.halfstep.SgdStep<weight_decay = 0.1>(lr, t, apply, f, p, q, g, h) }",
     0.01, 1, false},
    {"(float lr, float f, float[3] p, float[3] g, float[3] b) => (float[3] np, float[3] nb) "
     "<int64 t = {1}, bool apply = {1}> { np, nb = ai.halfstep.SgdStep<momentum = 0.9>(lr, t, apply, f, p, g, b) }",
     0.01, 1, false},
    {"(float lr, float f, float[3] p, float[3] g, float[3] b) => (float[3] np, float[3] nb) "
     "<int64 t = {2}, bool apply = {1}> { np, nb = ai.halfstep.SgdStep"
     "<momentum = 0.9, dampening = 0.5, nesterov = 1>(lr, t, apply, f, p, g, b) }",
     0.01, 1, false},
    {"(float lr, float f, float[3] p, float[3] g, float[3] b) => (float[3] np, float[3] nb) "
     "<int64 t = {2}, bool apply = {0}> { np, nb = ai.halfstep.SgdStep<momentum = 0.9>(lr, t, apply, f, p, g, b) }",
     0.01, 1, false},
};

}  // namespace

std::span<const OpDef> optimizer_ops() {
  static const OpDef rows[] = {
      {.name = "GlobalNorm",
       .domain = kOwnDomain,
       .reference = global_norm_kernel,
       .cases = kGlobalNormCases,
       .schema = global_norm_schema},
      {.name = "LossScaleUpdate",
       .domain = kOwnDomain,
       .reference = loss_scale_update_kernel,
       .cases = kLossScaleUpdateCases,
       .schema = loss_scale_update_schema},
      {.name = "AdamStep",
       .domain = kOwnDomain,
       .reference = adam_step_kernel,
       .cases = kAdamStepCases,
       .open_nan = {false, true,
                    "an infinite moment minus its own share, m + (1 - beta) (g - m), as in PyTorch, is NaN"},
       .schema = adam_step_schema},
      {.name = "SgdStep",
       .domain = kOwnDomain,
       .reference = sgd_step_kernel,
       .cases = kSgdStepCases,
       .schema = sgd_step_schema},
  };
  return rows;
}

}  // namespace halfstep::ops
