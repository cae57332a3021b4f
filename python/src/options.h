// Options of a training step from what Python gives.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <halfstep/passes/step/optimizer_options.h>

namespace halfstep::python {

using Numbers = std::map<std::string, double>;
/// Pattern, factor of the learning rate, updates for which it is frozen, hyperparameters.
using GroupOptions = std::tuple<std::string, double, std::int64_t, Numbers>;

/// Throws Error(input) for a name that there is not and for numbers out of their ranges.
OptimizerOptions optimizer_options(const std::string& name, const Numbers& numbers,
                                   const std::vector<GroupOptions>& groups);

}  // namespace halfstep::python
