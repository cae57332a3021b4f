#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

void update(ParameterUpdate& u) {
  Expr& sum = u.slots[0];
  u.decay_gradient();
  const Expr rate = u.lr / ((u.step - 1.0) * u["lr_decay"] + 1.0);
  sum = sum + u.gradient * u.gradient;
  u.parameter = u.parameter - rate * u.gradient / (u.sqrt(sum) + u["epsilon"]);
}

}  // namespace

OptimizerDef adagrad() {
  return {
      .name = "adagrad",
      .op = "AdagradStep",
      .source = "torch.optim.Adagrad (Duchi et al. 2011)",
      .hyperparameters = {{.name = "lr_decay",
                           .meaning = "divides the learning rate by 1 + lr-decay * previous updates",
                           .fallback = 0,
                           .lowest = 0,
                           .highest = kHuge},
                          {.name = "initial_accumulator",
                           .meaning = "initial value of the sum of squares",
                           .fallback = 0,
                           .lowest = 0,
                           .highest = kHuge},
                          epsilon(1e-10),
                          weight_decay(kCoupled)},
      .slots = {{"adagrad.sum.", "sum of the gradients' squares", like_parameter, "initial_accumulator"}},
      .update = update,
      .cases = {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] s) => (float[2,3] np, float[2,3] ns) "
                 "<int64 t = {1}, bool apply = {1}> { np, ns = ai.halfstep.AdagradStep(lr, t, apply, f, p, g, s) }",
                 0.01, 1, false},
                {"(float lr, float f, float[2] p1, float[3] p2, float[2] g1, float[3] g2, float[2] s1, float[3] s2) => "
                 "(float[2] np1, float[3] np2, float[2] ns1, float[3] ns2) <int64 t = {4}, bool apply = {1}> "
                 "{ np1, np2, ns1, ns2 = ai.halfstep.AdagradStep<weight_decay = 0.1, lr_decay = 0.5>"
                 "(lr, t, apply, f, p1, p2, g1, g2, s1, s2) }",
                 0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
