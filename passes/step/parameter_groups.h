// Which group of an optimizer's options a parameter belongs to.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace HALFSTEP_API halfstep {

/// The place of the first group whose pattern fits; their number where none does.
std::size_t group_of(std::span<const ParameterGroup> groups, const std::string& parameter);

/// Throws Error(input) naming a group to which none of the parameters belongs.
void check_groups_have_members(std::span<const ParameterGroup> groups, const std::vector<std::string>& parameters);

}  // namespace halfstep
