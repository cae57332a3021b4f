// What a user decides about updates: the optimizer, its numbers and the loss scale, with defaults and ranges.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace HALFSTEP_API halfstep {

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

/// Parameters that are trained otherwise than the others.
struct ParameterGroup {
  std::string pattern = {};                                 ///< a shell glob over their names: "encoder.*"
  double lr_factor = 1;                                     ///< of the learning rate; from 0 on
  std::int64_t frozen_updates = 0;                          ///< they stay as they are for so many updates
  std::map<std::string, double, std::less<>> numbers = {};  ///< the hyperparameters that are theirs: weight_decay

  bool operator==(const ParameterGroup&) const = default;
};

struct OptimizerOptions {
  std::string name{optimizers().front().name};           ///< of a row of the table of optimizers
  std::map<std::string, double, std::less<>> numbers{};  ///< the hyperparameters that are told, by their rows' names
  double clip_norm = 0;                                  ///< 0: no clipping by global norm
  std::int64_t accumulate = 1;                           ///< batches whose gradients are averaged before an update
  bool output_gradient_norms = false;                    ///< one more output per parameter: "grad_norm.<name>"
  LossScaleOptions loss_scale = {};                      ///< as given to scale_loss
  /// A parameter belongs to the first whose pattern fits its name; the others are trained as told above.
  std::vector<ParameterGroup> groups = {};
};

/// The row's hyperparameters, at their defaults where they are not told. Throws Error(input) as `check` does.
Hyperparameters hyperparameters_of(const OptimizerOptions& options);
/// Those of a group.
Hyperparameters hyperparameters_of(const OptimizerOptions& options, const ParameterGroup& group);

/// A number among the options: an optimizer's hyperparameter, or a member. The command line's flag is its name with two
/// dashes.
struct OptimizerNumber {
  std::string name, meaning;  ///< "weight-decay"
  double lowest, highest;
  bool below_highest = false;                    ///< `highest` itself is too much
  bool whole = false;                            ///< no fractions
  bool is_switch = false;                        ///< 0 or 1: a flag without a value
  std::string_view hyperparameter = {};          ///< its name in the rows of `owners`; empty: a member
  std::vector<const OptimizerDef*> owners = {};  ///< the optimizers that have it
  std::string default_text = {};                 ///< where the default is not one number
  std::optional<double> (*get_member)(const OptimizerOptions&) = nullptr;
  void (*set_member)(OptimizerOptions&, double) = nullptr;

  bool belongs_to(std::string_view optimizer) const;
  /// Nothing where it is unset and has no default. `options.name` must have it.
  std::optional<double> get(const OptimizerOptions& options) const;
};
/// Every hyperparameter of any optimizer, then the members.
const std::vector<OptimizerNumber>& optimizer_numbers();
/// What the options have when they are not told.
std::string default_of(const OptimizerNumber& number);

/// Sets one of them. Throws Error(input) when the value is out of its range or the optimizer has no such number.
void set_number(OptimizerOptions& options, const OptimizerNumber& number, double value);

/// Throws Error(input) for an optimizer that there is not, for a number that is out of its range or not the
/// optimizer's, for hyperparameters that do not go together, and for a loss scale that starts beyond its bounds.
void check(const OptimizerOptions& options);

}  // namespace halfstep
