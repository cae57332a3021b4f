#include <fmt/format.h>

#include "ops/optimizers/rows.h"
#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

void update(ParameterUpdate& u) {
  u.decay_gradient();
  Expr direction = u.gradient;
  if (Expr& buffer = u.slots[0]) {
    const double momentum = u["momentum"];
    const Expr later = buffer * momentum + u.gradient * (1 - u["dampening"]);
    const Expr was_before = u.b.cast(u.step - 1.0, DType::boolean);
    buffer = u.b.op("Where", {was_before, later, u.gradient});
    direction = u["nesterov"] != 0 ? u.gradient + buffer * momentum : buffer;
  }
  u.parameter = u.parameter - u.lr * direction;
}

void check(const Hyperparameters& h) {
  if (h["nesterov"] != 0 && (h["momentum"] == 0 || h["dampening"] != 0))
    throw_input_error("a --momentum above 0 and no --dampening with --nesterov",
                      fmt::format("momentum {}, dampening {}", h["momentum"], h["dampening"]), "add --momentum 0.9");
}

}  // namespace

OptimizerDef sgd() {
  return {
      .name = "sgd",
      .op = "SgdStep",
      .source = "torch.optim.SGD",
      .hyperparameters = {momentum(),
                          {.name = "dampening",
                           .meaning = "dampening: fraction of each gradient left out of the momentum",
                           .fallback = 0,
                           .lowest = 0,
                           .highest = 1},
                          {.name = "nesterov",
                           .meaning = "Nesterov's momentum",
                           .fallback = 0,
                           .lowest = 0,
                           .highest = 1,
                           .is_switch = true},
                          weight_decay(kCoupled)},
      .slots = {{"momentum.", "momentum buffer of gradients, starting with the first", with_momentum}},
      .update = update,
      .check = check,
      .cases =
          {{"(float lr, float f, float[2,3] p, float[4] q, float[2,3] g, float[4] h) => (float[2,3] np, float[4] nq) "
            "<int64 t = {5}, bool apply = {1}> "
            "{ np, nq = ai.halfstep.SgdStep<weight_decay = 0.1>(lr, t, apply, f, p, q, g, h) }",
            0.01, 1, false},
           {"(float lr, float f, float[3] p, float[3] g, float[3] b) => (float[3] np, float[3] nb) "
            "<int64 t = {1}, bool apply = {1}> { np, nb = ai.halfstep.SgdStep<momentum = 0.9>(lr, t, apply, f, p, g, "
            "b) }",
            0.01, 1, false},
           {"(float lr, float f, float[3] p, float[3] g, float[3] b) => (float[3] np, float[3] nb) "
            "<int64 t = {2}, bool apply = {1}> { np, nb = ai.halfstep.SgdStep"
            "<momentum = 0.9, dampening = 0.5, nesterov = 1>(lr, t, apply, f, p, g, b) }",
            0.01, 1, false},
           {"(float lr, float f, float[3] p, float[3] g, float[3] b) => (float[3] np, float[3] nb) "
            "<int64 t = {2}, bool apply = {0}> { np, nb = ai.halfstep.SgdStep<momentum = 0.9>(lr, t, apply, f, p, g, "
            "b) }",
            0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
