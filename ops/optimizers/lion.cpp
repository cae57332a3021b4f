#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

void update(ParameterUpdate& u) {
  const double beta1 = u["beta1"], beta2 = u["beta2"];
  Expr& m = u.slots[0];
  u.decay_parameter();
  u.parameter = u.parameter - u.lr * u.b.op("Sign", {m * beta1 + u.gradient * (1 - beta1)});
  m = m * beta2 + u.gradient * (1 - beta2);
}

}  // namespace

OptimizerDef lion() {
  return {
      .name = "lion",
      .op = "LionStep",
      .source = "Lion (Chen et al. 2023)",
      .hyperparameters = {decay_rate("beta1", "decay of the moment in the direction of an update", 0.9),
                          decay_rate("beta2", "decay of the moment", 0.99), weight_decay(kDecoupled)},
      .slots = {{"lion.m.", "mean of the gradients", like_parameter}},
      .update = update,
      .cases = {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] m) => (float[2,3] np, float[2,3] nm) "
                 "<int64 t = {1}, bool apply = {1}> { np, nm = ai.halfstep.LionStep(lr, t, apply, f, p, g, m) }",
                 0.01, 1, false},
                {"(float lr, float f, float[2] p1, float p2, float[2] g1, float g2, float[2] m1, float m2) => "
                 "(float[2] np1, "
                 "float np2, float[2] nm1, float nm2) <int64 t = {3}, bool apply = {1}> { np1, np2, nm1, nm2 = "
                 "ai.halfstep.LionStep<weight_decay = 0.1, beta1 = 0.8>(lr, t, apply, f, p1, p2, g1, g2, m1, m2) }",
                 0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
