// Groups of parameters as text.
#pragma once

#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace HALFSTEP_API halfstep {

/// Reads "PATTERN:KEY=VALUE,...", the keys lr_factor, frozen_updates and the names of hyperparameters. Throws
/// Error(input) for another form, a repeated key, and what is no number; `check` of the options for the others.
ParameterGroup parse_parameter_group(std::string_view text);
/// The text that it turns into this group again.
std::string to_string(const ParameterGroup& group);

}  // namespace halfstep
