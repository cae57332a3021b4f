// Shared parts of the optimizers' rows, and the list of them.
#pragma once

#include <limits>

#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::ops {

OptimizerDef adam(), adamw(), sgd(), lion(), rmsprop(), adagrad(), lamb(), adafactor(), adamax(), nadam();

inline constexpr double kHuge = 1e30;  // representable in f32, as is its square root, with a margin
inline constexpr double kTiny = std::numeric_limits<float>::min();  // the smallest normal number: not 0

/// The fraction of the old value in a moving average.
constexpr Hyperparameter decay_rate(std::string_view name, std::string_view meaning, double fallback) {
  return {.name = name, .meaning = meaning, .fallback = fallback, .lowest = 0, .highest = 1, .below_highest = true};
}
constexpr Hyperparameter beta1() { return decay_rate("beta1", "decay of the first moment", 0.9); }
constexpr Hyperparameter beta2() { return decay_rate("beta2", "decay of the second moment", 0.999); }
constexpr Hyperparameter epsilon(double fallback = 1e-8,
                                 std::string_view meaning = "added to the root of the second moment") {
  return {.name = "epsilon", .meaning = meaning, .fallback = fallback, .lowest = kTiny, .highest = kHuge};
}
constexpr Hyperparameter momentum() {
  return {.name = "momentum", .meaning = "decay of the momentum", .fallback = 0, .lowest = 0, .highest = 1};
}

inline constexpr std::string_view kCoupled = "weight decay, added to the gradients",
                                  kDecoupled = "weight decay, subtracted from the parameters";
constexpr Hyperparameter weight_decay(std::string_view meaning, double fallback = 0) {
  return {.name = "weight_decay", .meaning = meaning, .fallback = fallback, .lowest = 0, .highest = kHuge};
}

inline std::optional<Shape> like_parameter(const Hyperparameters&, const Shape& parameter) { return parameter; }
inline std::optional<Shape> with_momentum(const Hyperparameters& h, const Shape& parameter) {
  return h["momentum"] == 0 ? std::nullopt : std::optional(parameter);
}

}  // namespace halfstep::ops
