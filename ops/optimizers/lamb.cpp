#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

void update(ParameterUpdate& u) {
  const double beta1 = u["beta1"], beta2 = u["beta2"], decay = u["weight_decay"];
  Expr &m = u.slots[0], &v = u.slots[1];
  m = m * beta1 + u.gradient * (1 - beta1);
  v = v * beta2 + u.gradient * (1 - beta2) * u.gradient;
  Expr direction = m / u.one_minus_power(beta1) / (u.sqrt(v / u.one_minus_power(beta2)) + u["epsilon"]);
  if (decay != 0) direction = direction + u.parameter * decay;
  // The trust ratio: 1 if either norm is 0.
  const Expr size = u.norm(u.parameter), length = u.norm(direction);
  const Expr is_defined = u.b.op("And", {u.b.cast(size, DType::boolean), u.b.cast(length, DType::boolean)});
  const Expr trust = u.b.op("Where", {is_defined, size / length, u.b.scalar(1, size.dtype())});
  u.parameter = u.parameter - u.lr * trust * direction;
}

}  // namespace

OptimizerDef lamb() {
  return {
      .name = "lamb",
      .op = "LambStep",
      .source = "LAMB (You et al. 2019), with bias correction and an unbounded trust ratio",
      .hyperparameters = {beta1(), beta2(), epsilon(1e-6),
                          weight_decay("weight decay, added to the update before the trust ratio", 0.01)},
      .slots = {{"lamb.m.", "mean of the gradients", like_parameter},
                {"lamb.v.", "mean of their squares", like_parameter}},
      .update = update,
      .cases = {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] m, float[2,3] v) "
                 "=> (float[2,3] np, float[2,3] nm, float[2,3] nv) <int64 t = {1}, bool apply = {1}> "
                 "{ np, nm, nv = ai.halfstep.LambStep(lr, t, apply, f, p, g, m, v) }",
                 0.01, 1, false},
                {"(float lr, float f, float[2] p1, float p2, float[2] g1, float g2, float[2] m1, float m2, float[2] "
                 "v1, float "
                 "v2) => (float[2] np1, float np2, float[2] nm1, float nm2, float[2] nv1, float nv2) "
                 "<int64 t = {10}, bool apply = {1}> { np1, np2, nm1, nm2, nv1, nv2 = ai.halfstep.LambStep"
                 "<weight_decay = 0.0, beta1 = 0.8>(lr, t, apply, f, p1, p2, g1, g2, m1, m2, v1, v2) }",
                 0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
