// How much memory there is.
#pragma once

#include <cstddef>

namespace halfstep {

/// Bytes of main memory that this process may use: the machine's, or less where its control group (a container) or its
/// address space (ulimit -v) is limited; the largest number there is where the system does not say. Asked once.
std::size_t machine_memory();

/// Gives back to the system what the heap holds and nobody uses, as after much has been freed.
void return_free_memory();

}  // namespace halfstep
