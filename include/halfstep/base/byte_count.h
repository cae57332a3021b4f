// Byte counts in human-readable form.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Parses "1000000", "800MB", "1.5 GiB", "2G". Units: B; K, M, G, T for powers of 1000; Ki, Mi, Gi, Ti for powers of
/// 1024; the latter two with an optional B. Case-insensitive. Throws Error(input), which calls the number `what`,
/// unless it is at least 1.
std::size_t parse_byte_count(std::string_view text, std::string_view what);

}  // namespace halfstep
