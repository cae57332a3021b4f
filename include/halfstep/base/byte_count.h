// Numbers of bytes as people write them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// "1000000", "800MB", "1.5 GiB", "2G": with B, or K, M, G or T for powers of 1000 (then B or not), or Ki, Mi, Gi, Ti
/// (then B or not) for powers of 1024; capitals do not matter. Throws Error(input), calling the number `what`, unless
/// it is at least 1.
std::size_t parse_byte_count(std::string_view text, std::string_view what);

}  // namespace halfstep
