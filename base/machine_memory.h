// Available main memory.
#pragma once

#include <cstddef>

namespace halfstep {

/// Bytes of main memory that this process may use: the machine's, or less if its control group (a container) or its
/// address space (ulimit -v) is limited; the maximum value if the system does not report it. Determined once.
std::size_t machine_memory();

/// Gives back to the system what the heap holds and nobody uses, as after much has been freed.
void return_free_memory();

}  // namespace halfstep
