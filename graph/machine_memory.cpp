#include "graph/machine_memory.h"

#include <limits>

#include <unistd.h>

namespace halfstep {

std::size_t machine_memory() {
  static const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page)
                               : std::numeric_limits<std::size_t>::max();
}

}  // namespace halfstep
