#include "base/machine_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/resource.h>
#include <unistd.h>

namespace halfstep {
namespace {

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

std::size_t physical_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) : kUnlimited;
}

/// The number in a file; "max" and a missing file mean no limit.
std::size_t limit_in(const std::filesystem::path& file) {
  std::size_t bytes = 0;
  std::ifstream in(file);
  return in >> bytes && bytes > 0 ? bytes : kUnlimited;
}

/// The smallest limit of the process's control group and its ancestors.
std::size_t control_group_limit() {
  std::size_t least = limit_in("/sys/fs/cgroup/memory/memory.limit_in_bytes");  // version 1
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::/")) continue;
    for (std::filesystem::path group = line.substr(4);; group = group.parent_path()) {
      least = std::min(least, limit_in(std::filesystem::path("/sys/fs/cgroup") / group / "memory.max"));
      if (group.empty()) break;
    }
  }
  return least;
}

std::size_t address_space() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur : kUnlimited;
}

}  // namespace

std::size_t machine_memory() {
  static const std::size_t bytes = std::min({physical_memory(), control_group_limit(), address_space()});
  return bytes;
}

ResidentMemory resident_memory() {
  constexpr std::size_t kKilo = 1024;  // the file says kB
  ResidentMemory memory;
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "VmRSS:" && status >> memory.now) memory.now *= kKilo;
    if (word == "VmHWM:" && status >> memory.most) memory.most *= kKilo;
  }
  return memory;
}

void return_free_memory() {
// Sanitizers replace malloc: glibc's own is not initialized then, and malloc_trim would do that without a lock.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  ::malloc_trim(0);
#endif
}

}  // namespace halfstep
