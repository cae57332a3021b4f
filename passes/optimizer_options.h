// What a user decides about updates: the optimizer, its numbers and the loss scale, with defaults and ranges.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halfstep {

enum class OptimizerKind { sgd, adam, adamw };
std::string_view name_of(OptimizerKind kind);
/// Throws Error listing the optimizers there are.
OptimizerKind parse_optimizer(std::string_view name);

struct LossScaleOptions {
  bool enabled = false;
  double initial = 65536;
  double growth_factor = 2, backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;  ///< updates in a row with finite gradients before it grows
  /// The scale stays between them. Unset: 1 and 2^24, or `initial` where that lies beyond.
  std::optional<double> min = {}, max = {};

  double lowest() const;
  double highest() const;
  /// The updates skipped in a row that bring the scale from `initial` down to its lowest.
  std::int64_t backoffs() const;
};

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adam;
  double momentum = 0, dampening = 0;                 // sgd
  bool nesterov = false;                              // sgd
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // adam, adamw
  /// Coupled for sgd and adam, decoupled for adamw. Unset: what PyTorch has, 0.01 for adamw and 0 for the others.
  std::optional<double> weight_decay = {};
  double clip_norm = 0;                ///< 0: no clipping by global norm
  std::int64_t accumulate = 1;         ///< batches whose gradients are averaged before an update
  bool output_gradient_norms = false;  ///< one more output per parameter: "grad_norm.<name>"
  LossScaleOptions loss_scale = {};    ///< as given to scale_loss
};

/// The weight decay that the options mean.
double weight_decay_of(const OptimizerOptions& options);

/// A number among the options: its name ("weight-decay"; the command line's flag is that with two dashes), what it may
/// be, and where it lies.
struct OptimizerNumber {
  std::string_view name, meaning;
  double lowest, highest;
  bool below_highest = false;                             ///< `highest` itself is too much
  bool whole = false;                                     ///< no fractions
  std::vector<OptimizerKind> kinds = {};                  ///< the optimizers that have it; empty: all
  std::string default_text = {};                          ///< where the default is not one number
  std::optional<double> (*get)(const OptimizerOptions&);  ///< nothing where it is unset
  void (*set)(OptimizerOptions&, double);

  bool belongs_to(OptimizerKind kind) const;
};
const std::vector<OptimizerNumber>& optimizer_numbers();
/// What the options have when they are not told.
std::string default_of(const OptimizerNumber& number);

/// Sets one of them. Throws Error(input) when the value is out of its range or `options.kind` has no such number.
void set_number(OptimizerOptions& options, const OptimizerNumber& number, double value);

/// Throws Error(input) for a number that is out of its range or not the optimizer's, for Nesterov's momentum without
/// momentum or with dampening, and for a loss scale that starts beyond its bounds.
void check(const OptimizerOptions& options);

}  // namespace halfstep
