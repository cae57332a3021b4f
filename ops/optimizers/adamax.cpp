#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

void update(ParameterUpdate& u) {
  const double beta1 = u["beta1"];
  Expr &m = u.slots[0], &largest = u.slots[1];
  u.decay_gradient();
  m = m * beta1 + u.gradient * (1 - beta1);
  largest = u.b.op("Max", {largest * u["beta2"], u.b.op("Abs", {u.gradient}) + u["epsilon"]});
  u.parameter = u.parameter - u.lr / u.one_minus_power(beta1) * m / largest;
}

}  // namespace

OptimizerDef adamax() {
  return {
      .name = "adamax",
      .op = "AdamaxStep",
      .source = "torch.optim.Adamax (Kingma & Ba 2015)",
      .hyperparameters = {beta1(), decay_rate("beta2", "decay of the largest gradient", 0.999),
                          epsilon(1e-8, "added to the size of the gradient"), weight_decay(kCoupled)},
      .slots = {{"adamax.m.", "mean of the gradients", like_parameter},
                {"adamax.largest.", "largest of the gradients' sizes, which decay", like_parameter}},
      .update = update,
      .cases = {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] m, float[2,3] l) => (float[2,3] np, "
                 "float[2,3] nm, float[2,3] nl) <int64 t = {1}, bool apply = {1}> "
                 "{ np, nm, nl = ai.halfstep.AdamaxStep(lr, t, apply, f, p, g, m, l) }",
                 0.01, 1, false},
                {"(float lr, float f, float[2] p1, float[5] p2, float[2] g1, float[5] g2, float[2] m1, float[5] m2, "
                 "float[2] l1, float[5] l2) => (float[2] np1, float[5] np2, float[2] nm1, float[5] nm2, float[2] nl1, "
                 "float[5] nl2) <int64 t = {10}, bool apply = {1}> { np1, np2, nm1, nm2, nl1, nl2 = "
                 "ai.halfstep.AdamaxStep<weight_decay = 0.1, beta1 = 0.8, beta2 = 0.9>"
                 "(lr, t, apply, f, p1, p2, g1, g2, m1, m2, l1, l2) }",
                 0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
