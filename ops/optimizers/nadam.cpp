#include <cmath>

#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

/// beta1 (1 - 0.96^(step momentum_decay) / 2), which rises to beta1.
Expr momentum_of(ParameterUpdate& u, Expr step) {
  const Expr power = u.b.op("Exp", {step * (u["momentum_decay"] * std::log(0.96))});
  return (1 - power * 0.5) * u["beta1"];
}

void update(ParameterUpdate& u) {
  const double beta1 = u["beta1"], beta2 = u["beta2"];
  Expr &m = u.slots[0], &v = u.slots[1], &share = u.slots[2];
  u.decay_gradient();
  const Expr now = momentum_of(u, u.step), next = momentum_of(u, u.step + 1);
  m = m * beta1 + u.gradient * (1 - beta1);
  v = v * beta2 + u.gradient * (1 - beta2) * u.gradient;
  share = share * now + (1 - now);
  const Expr next_share = share * next + (1 - next);
  const Expr direction = u.gradient * ((1 - now) / share) + m * (next / next_share);
  u.parameter = u.parameter - u.lr * direction / (u.sqrt(v) / u.sqrt(u.one_minus_power(beta2)) + u["epsilon"]);
}

std::optional<Shape> one_number(const Hyperparameters&, const Shape&) { return Shape{}; }

}  // namespace

OptimizerDef nadam() {
  return {
      .name = "nadam",
      .op = "NAdamStep",
      .source = "torch.optim.NAdam (Dozat 2016)",
      .hyperparameters = {beta1(),
                          beta2(),
                          epsilon(),
                          {.name = "momentum_decay",
                           .meaning = "how soon the momentum rises to beta1: by 0.96^(updates * momentum-decay)",
                           .fallback = 4e-3,
                           .lowest = 0,
                           .highest = kHuge},
                          weight_decay(kCoupled)},
      .slots = {{"nadam.m.", "mean of the gradients", like_parameter},
                {"nadam.v.", "mean of their squares", like_parameter},
                {"nadam.share.", "1 less the product of all momentums", one_number}},
      .update = update,
      .cases = {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] m, float[2,3] v, float s) => "
                 "(float[2,3] np, float[2,3] nm, float[2,3] nv, float ns) <int64 t = {1}, bool apply = {1}> "
                 "{ np, nm, nv, ns = ai.halfstep.NAdamStep(lr, t, apply, f, p, g, m, v, s) }",
                 0.01, 1, false},
                {"(float lr, float f, float[2] p1, float[5] p2, float[2] g1, float[5] g2, float[2] m1, float[5] m2, "
                 "float[2] v1, float[5] v2, float s1, float s2) => (float[2] np1, float[5] np2, float[2] nm1, "
                 "float[5] nm2, float[2] nv1, float[5] nv2, float ns1, float ns2) <int64 t = {10}, bool apply = {1}> "
                 "{ np1, np2, nm1, nm2, nv1, nv2, ns1, ns2 = ai.halfstep.NAdamStep"
                 "<weight_decay = 0.1, beta1 = 0.8, momentum_decay = 0.5>"
                 "(lr, t, apply, f, p1, p2, g1, g2, m1, m2, v1, v2, s1, s2) }",
                 0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
