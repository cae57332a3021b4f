// Text form of parameter groups.
#pragma once

#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace HALFSTEP_API halfstep {

/// Parses "PATTERN:KEY=VALUE,..." with the keys lr_factor, frozen_updates and the names of hyperparameters. Throws
/// Error(input) for another form, a repeated key, and an invalid number; `check` of the options finds other errors.
ParameterGroup parse_parameter_group(std::string_view text);
/// The text form, from which parse_parameter_group restores the group.
std::string to_string(const ParameterGroup& group);

}  // namespace halfstep
