// How much memory there is.
#pragma once

#include <cstddef>

namespace halfstep {

/// Bytes of this machine's main memory; the largest number there is where the system does not say.
std::size_t machine_memory();

}  // namespace halfstep
