// Lists in messages.
#pragma once

#include <string>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// The first few elements of a list, and the number of others: "a, b, c, d and 3 more".
std::string abridged(const std::vector<std::string>& items);

}  // namespace halfstep
