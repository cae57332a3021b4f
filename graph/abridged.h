// Lists in messages.
#pragma once

#include <string>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// The first few of a list, and how many there are besides: "a, b, c, d and 3 more".
std::string abridged(const std::vector<std::string>& items);

}  // namespace halfstep
