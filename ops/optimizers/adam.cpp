#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

void follow_moments(ParameterUpdate& u) {
  const double beta1 = u["beta1"], beta2 = u["beta2"];
  Expr &m = u.slots[0], &v = u.slots[1];
  m = m * beta1 + u.gradient * (1 - beta1);
  v = v * beta2 + u.gradient * (1 - beta2) * u.gradient;
  const Expr v_root = u.sqrt(u.one_minus_power(beta2));
  u.parameter = u.parameter - u.lr / u.one_minus_power(beta1) * m / (u.sqrt(v) / v_root + u["epsilon"]);
}

void update_adam(ParameterUpdate& u) {
  u.decay_gradient();
  follow_moments(u);
}
void update_adamw(ParameterUpdate& u) {
  u.decay_parameter();
  follow_moments(u);
}

std::vector<OptimizerSlot> moments() {
  return {{"adam.m.", "mean of the gradients", like_parameter}, {"adam.v.", "mean of their squares", like_parameter}};
}
constexpr OpenNaN kOpenNaN = {false, true,
                              "an infinite moment minus its own share, m + (1 - beta) (g - m), as in PyTorch, is NaN"};

}  // namespace

OptimizerDef adam() {
  return {
      .name = "adam",
      .op = "AdamStep",
      .source = "torch.optim.Adam (Kingma & Ba 2015)",
      .hyperparameters = {beta1(), beta2(), epsilon(), weight_decay(kCoupled)},
      .slots = moments(),
      .update = update_adam,
      .cases = {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] m, float[2,3] v) "
                 "=> (float[2,3] np, float[2,3] nm, float[2,3] nv) <int64 t = {1}, bool apply = {1}> "
                 "{ np, nm, nv = ai.halfstep.AdamStep(lr, t, apply, f, p, g, m, v) }",
                 0.01, 1, false},
                {"(float lr, float f, float[3] p, float[3] g, float[3] m, float[3] v) => (float[3] np, float[3] nm, "
                 "float[3] "
                 "nv) <int64 t = {3}, bool apply = {0}> "
                 "{ np, nm, nv = ai.halfstep.AdamStep<weight_decay = 0.1>(lr, t, apply, f, p, g, m, v) }",
                 0.01, 1, false}},
      .open_nan = kOpenNaN,
  };
}

OptimizerDef adamw() {
  return {
      .name = "adamw",
      .op = "AdamWStep",
      .source = "torch.optim.AdamW (Loshchilov & Hutter 2019)",
      .hyperparameters = {beta1(), beta2(), epsilon(), weight_decay(kDecoupled, 0.01)},
      .slots = moments(),
      .update = update_adamw,
      .cases =
          {{"(float lr, float f, float[2] p1, float[5] p2, float[2] g1, float[5] g2, float[2] m1, float[5] m2, "
            "float[2] "
            "v1, float[5] v2) => (float[2] np1, float[5] np2, float[2] nm1, float[5] nm2, float[2] nv1, float[5] nv2) "
            "<int64 t = {10}, bool apply = {1}> { np1, np2, nm1, nm2, nv1, nv2 = ai.halfstep.AdamWStep"
            "<weight_decay = 0.1, beta1 = 0.8>(lr, t, apply, f, p1, p2, g1, g2, m1, m2, v1, v2) }",
            0.01, 1, false}},
      .open_nan = kOpenNaN,
  };
}

}  // namespace halfstep::ops
