// Options of updates: the optimizer, its hyperparameters and the loss scale, with defaults and ranges.
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
  std::int64_t growth_interval = 2000;  ///< consecutive finite updates before it grows
  /// Bounds of the scale. Unset: 1 and 2^24, extended to include `initial`.
  std::optional<double> min = {}, max = {};

  double lowest() const;
  double highest() const;
  /// Number of consecutive skipped updates that reduce the scale from `initial` to its minimum.
  std::int64_t backoffs() const;
};

/// A group of parameters with its own settings.
struct ParameterGroup {
  std::string pattern = {};                                 ///< a shell glob over their names: "encoder.*"
  double lr_factor = 1;                                     ///< factor of the learning rate; at least 0
  std::int64_t frozen_updates = 0;                          ///< number of initial updates in which they are not changed
  std::map<std::string, double, std::less<>> numbers = {};  ///< hyperparameters of the group: weight_decay

  bool operator==(const ParameterGroup&) const = default;
};

struct OptimizerOptions {
  std::string name{optimizers().front().name};           ///< a row of the table of optimizers
  std::map<std::string, double, std::less<>> numbers{};  ///< hyperparameters other than defaults, by name
  double clip_norm = 0;                                  ///< 0: no clipping by global norm
  std::int64_t accumulate = 1;                           ///< batches whose gradients are averaged for an update
  bool output_gradient_norms = false;                    ///< one more output per parameter: "grad_norm.<name>"
  LossScaleOptions loss_scale = {};                      ///< same as in scale_loss
  /// A parameter belongs to the first group whose pattern matches its name; others use the options above.
  std::vector<ParameterGroup> groups = {};
};

/// The hyperparameters of the options, with defaults for those not set. Throws Error(input) as `check` does.
Hyperparameters hyperparameters_of(const OptimizerOptions& options);
/// The hyperparameters of a group.
Hyperparameters hyperparameters_of(const OptimizerOptions& options, const ParameterGroup& group);

/// A numeric option: an optimizer's hyperparameter, or a member of OptimizerOptions. The command-line flag is its name
/// with two dashes.
struct OptimizerNumber {
  std::string name, meaning;  ///< "weight-decay"
  double lowest, highest;
  bool below_highest = false;                    ///< `highest` itself is excluded
  bool whole = false;                            ///< integers only
  bool is_switch = false;                        ///< 0 or 1: a flag without a value
  std::string_view hyperparameter = {};          ///< its name in the rows of `owners`; empty: a member
  std::vector<const OptimizerDef*> owners = {};  ///< the optimizers that have it
  std::string default_text = {};                 ///< if the default is not a single number
  std::optional<double> (*get_member)(const OptimizerOptions&) = nullptr;
  void (*set_member)(OptimizerOptions&, double) = nullptr;

  bool belongs_to(std::string_view optimizer) const;
  /// Nothing if it is unset and has no default. The optimizer `options.name` must have it.
  std::optional<double> get(const OptimizerOptions& options) const;
};
/// Every hyperparameter of any optimizer, then the members.
const std::vector<OptimizerNumber>& optimizer_numbers();
/// The default value as text.
std::string default_of(const OptimizerNumber& number);

/// Sets an option. Throws Error(input) if the value is out of range or the optimizer has no such hyperparameter.
void set_number(OptimizerOptions& options, const OptimizerNumber& number, double value);

/// Throws Error(input) for an unknown optimizer, for a number that is out of range or does not belong to the
/// optimizer, for incompatible hyperparameters, and for an initial loss scale out of bounds.
void check(const OptimizerOptions& options);

}  // namespace halfstep
