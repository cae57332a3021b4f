#include <algorithm>
#include <cmath>

#include "ops/optimizers/rows.h"

namespace halfstep::ops {
namespace {

bool is_factored(const Shape& parameter) { return parameter.rank() > 1; }

/// The shape with extent 1 along this axis, counted from the last.
Shape with_one(const Shape& shape, std::size_t axis_from_last) {
  std::vector<std::int64_t> dims = shape.dims();
  dims[dims.size() - axis_from_last] = 1;
  return Shape(dims);
}
std::optional<Shape> rows_of(const Hyperparameters&, const Shape& parameter) {
  return is_factored(parameter) ? std::optional(with_one(parameter, 1)) : std::nullopt;
}
std::optional<Shape> columns_of(const Hyperparameters&, const Shape& parameter) {
  return is_factored(parameter) ? std::optional(with_one(parameter, 2)) : std::nullopt;
}
std::optional<Shape> unfactored(const Hyperparameters&, const Shape& parameter) {
  return is_factored(parameter) ? std::nullopt : std::optional(parameter);
}

void update(ParameterUpdate& u) {
  Builder& b = u.b;
  const Shape shape = u.parameter.shape();
  const DType dtype = u.parameter.dtype();
  const auto at_least = [&](double least, Expr x) { return b.op("Max", {x, b.scalar(least, dtype)}); };
  const auto mean = [&](Expr x, std::size_t axis_from_last) {
    const auto axis = static_cast<std::int64_t>(shape.rank() - axis_from_last);
    return b.op("ReduceMean", {x, b.ints({axis})}, {{"keepdims", std::int64_t{1}}});
  };
  const double root_count = std::sqrt(static_cast<double>(std::max<std::int64_t>(shape.count(), 1)));
  const auto root_mean_square = [&](Expr x) { return u.norm(x) / root_count; };

  // The weight of the new squares in the second moment: step^beta2_decay.
  const Expr part = b.op("Exp", {b.op("Log", {u.step}) * u["beta2_decay"]});
  const auto blend = [&](Expr old, Expr now) { return old + part * (now - old); };
  const Expr rate = at_least(u["epsilon2"], root_mean_square(u.parameter)) * b.op("Min", {u.lr, 1.0 / u.sqrt(u.step)});
  u.decay_parameter();
  const Expr squares = u.gradient * u.gradient;
  Expr second;
  if (is_factored(shape)) {
    Expr &rows = u.slots[0], &columns = u.slots[1];
    rows = blend(rows, mean(squares, 1));
    columns = blend(columns, mean(squares, 2));
    second = rows * columns / at_least(u["epsilon1"], mean(rows, 2));
  } else {
    second = u.slots[2] = blend(u.slots[2], squares);
  }
  const Expr direction = u.gradient / u.sqrt(at_least(u["epsilon1"] * u["epsilon1"], second));
  const Expr clipped = at_least(1, root_mean_square(direction) / u["clip_threshold"]);
  u.parameter = u.parameter - rate / clipped * direction;
}

}  // namespace

OptimizerDef adafactor() {
  return {
      .name = "adafactor",
      .op = "AdafactorStep",
      .source = "torch.optim.Adafactor (Shazeer & Stern 2018)",
      .hyperparameters = {{.name = "beta2_decay",
                           .meaning = "weight of the new squares in the second moment: update^beta2-decay",
                           .fallback = -0.8,
                           .lowest = -100,
                           .highest = 0},
                          {.name = "epsilon1",
                           .meaning = "lower bound of the root of the second moment",
                           .fallback = 1.1920929e-07,  // of f32, as in PyTorch
                           .lowest = 1e-18,            // its square is representable in f32
                           .highest = 1e18},
                          {.name = "epsilon2",
                           .meaning = "lower bound of a parameter's root mean square, which scales the learning rate",
                           .fallback = 1e-3,
                           .lowest = 0,
                           .highest = kHuge},
                          {.name = "clip_threshold",
                           .meaning = "clips the root mean square of an update, before the learning rate",
                           .fallback = 1,
                           .lowest = 1,
                           .highest = kHuge},
                          weight_decay(kDecoupled)},
      .slots = {{"adafactor.row.", "mean of the gradients' squares in each row", rows_of},
                {"adafactor.column.", "mean of the gradients' squares in each column", columns_of},
                {"adafactor.v.", "mean of the squares, of parameters with fewer than two axes", unfactored}},
      .update = update,
      .cases =
          {{"(float lr, float f, float[2,3] p, float[2,3] g, float[2,1] r, float[1,3] c) => (float[2,3] np, float[2,1] "
            "nr, float[1,3] nc) <int64 t = {1}, bool apply = {1}> "
            "{ np, nr, nc = ai.halfstep.AdafactorStep(lr, t, apply, f, p, g, r, c) }",
            0.01, 1, false},
           {"(float lr, float f, float[2,3,2] p1, float[4] p2, float p3, float[2,3,2] g1, float[4] g2, float g3, "
            "float[2,3,1] r1, float[2,1,2] c1, float[4] v2, float v3) => (float[2,3,2] np1, float[4] np2, float np3, "
            "float[2,3,1] nr1, float[2,1,2] nc1, float[4] nv2, float nv3) <int64 t = {7}, bool apply = {1}> "
            "{ np1, np2, np3, nr1, nc1, nv2, nv3 = ai.halfstep.AdafactorStep<weight_decay = 0.1, beta2_decay = -0.5>"
            "(lr, t, apply, f, p1, p2, p3, g1, g2, g3, r1, c1, v2, v3) }",
            0.01, 1, false}},
  };
}

}  // namespace halfstep::ops
