#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

void update(ParameterUpdate& u) {
  const double alpha = u["alpha"];
  Expr &squares = u.slots[0], &mean = u.slots[1], &buffer = u.slots[2];
  u.decay_gradient();
  squares = squares * alpha + u.gradient * (1 - alpha) * u.gradient;
  Expr variance = squares;
  if (mean) {
    mean = mean * alpha + u.gradient * (1 - alpha);
    // Rounding may give a negative value.
    variance = u.b.op("Max", {squares - mean * mean, u.b.scalar(0, squares.dtype())});
  }
  Expr direction = u.gradient / (u.sqrt(variance) + u["epsilon"]);
  if (buffer) direction = buffer = buffer * u["momentum"] + direction;
  u.parameter = u.parameter - u.lr * direction;
}

std::optional<Shape> where_centered(const Hyperparameters& h, const Shape& parameter) {
  return h["centered"] == 0 ? std::nullopt : std::optional(parameter);
}

}  // namespace

OptimizerDef rmsprop() {
  return {
      .name = "rmsprop",
      .op = "RmsPropStep",
      .source = "torch.optim.RMSprop (Tieleman & Hinton 2012)",
      .hyperparameters = {decay_rate("alpha", "decay of the mean of squares", 0.99),
                          epsilon(),
                          momentum(),
                          {.name = "centered",
                           .meaning = "normalizes by the standard deviation of the gradients",
                           .fallback = 0,
                           .lowest = 0,
                           .highest = 1,
                           .is_switch = true},
                          weight_decay(kCoupled)},
      .slots = {{"rmsprop.square.", "mean of the gradients' squares", like_parameter},
                {"rmsprop.mean.", "mean of the gradients", where_centered},
                {"rmsprop.momentum.", "sum of past updates", with_momentum}},
      .update = update,
      .cases = {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,3] s) => (float[2,3] np, float[2,3] ns) "
                 "<int64 t = {1}, bool apply = {1}> "
                 "{ np, ns = ai.halfstep.RmsPropStep<weight_decay = 0.1>(lr, t, apply, f, p, g, s) }",
                 0.01, 1, false},
                {"(float lr, float f, float[3] p, float[3] g, float[3] s, float[3] b) => (float[3] np, float[3] ns, "
                 "float[3] "
                 "nb) <int64 t = {2}, bool apply = {1}> "
                 "{ np, ns, nb = ai.halfstep.RmsPropStep<momentum = 0.9>(lr, t, apply, f, p, g, s, b) }",
                 0.01, 1, false},
                {"(float lr, float f, float[3] p, float[3] g) => (float[3] np, float[3] ns, float[3] nm, float[3] nb) "
                 "<int64 t = {2}, bool apply = {1}, float[3] s = {0.5, 1, 0.75}, float[3] m = {0.25, -0.5, 0.125}, "
                 "float[3] b = {0.5, 0, -1}> { np, ns, nm, nb = ai.halfstep.RmsPropStep"
                 "<momentum = 0.9, centered = 1, alpha = 0.9>(lr, t, apply, f, p, g, s, m, b) }",
                 0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
