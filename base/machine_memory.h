// Available main memory.
#pragma once

#include <cstddef>

#include <halfstep/base/api.h>

namespace halfstep {

/// Bytes of main memory that this process may use: the machine's, or less if its control group (a container) or its
/// address space (ulimit -v) is limited; the maximum value if the system does not report it. Determined once.
std::size_t machine_memory();

/// Bytes of this process in main memory, now and at most so far; zeros if the system does not report them.
struct ResidentMemory {
  std::size_t now = 0, most = 0;
};
HALFSTEP_API ResidentMemory resident_memory();

/// Gives back to the system what the heap holds and nobody uses, as after much has been freed.
void return_free_memory();

}  // namespace halfstep
