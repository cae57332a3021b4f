#include "base/mapped_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <halfstep/base/error.h>

namespace halfstep {

/// A mapping for the signal handler. The list of ranges only grows; free ones are reused.
struct MappedFile::Range {
  std::atomic<bool> taken = false;
  std::atomic<std::uintptr_t> begin = 0, end = 0;
  std::atomic<std::size_t> readable = 0;  ///< bytes before the first lost one
  Range* next = nullptr;
};

namespace {

struct sigaction before = {};

std::uintptr_t page_size() {
  static const auto size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

static std::atomic<void*> first_range = nullptr;

MappedFile::Range& MappedFile::claim_range() {
  for (auto* range = static_cast<Range*>(first_range.load()); range; range = range->next)
    if (bool free = false; range->taken.compare_exchange_strong(free, true)) return *range;
  auto* range = new Range;  // never freed: the handler may read it at any time
  range->taken = true;
  void* head = first_range.load();
  do range->next = static_cast<Range*>(head);
  while (!first_range.compare_exchange_weak(head, range));
  return *range;
}

// Calls only async-signal-safe functions, and mmap, which is a plain system call on Linux.
void MappedFile::on_bus_error(int, void* info, void*) {
  const int saved = errno;
  const auto at = reinterpret_cast<std::uintptr_t>(static_cast<siginfo_t*>(info)->si_addr);
  for (auto* range = static_cast<Range*>(first_range.load()); range; range = range->next) {
    const std::uintptr_t begin = range->begin, end = range->end;
    if (at < begin || at >= end) continue;
    const std::uintptr_t page = at / page_size() * page_size();
    void* zeros = ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (zeros == MAP_FAILED) break;
    std::size_t known = range->readable;
    const std::size_t found = page - begin;
    while (found < known && !range->readable.compare_exchange_weak(known, found)) {
    }
    errno = saved;
    return;
  }
  // Not one of ours: the instruction is repeated and reaches the previous handler.
  ::sigaction(SIGBUS, &before, nullptr);
  errno = saved;
}

void MappedFile::install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_size();
    struct sigaction action = {};
    action.sa_sigaction = [](int signal, siginfo_t* info, void* context) { on_bus_error(signal, info, context); };
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigaction(SIGBUS, &action, &before);
  });
}

MappedFile::MappedFile(int descriptor, std::size_t size) : size_(size) {
  install_handler();
  Range& range = claim_range();
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (start != MAP_FAILED) descriptor_ = Descriptor(::fcntl(descriptor, F_DUPFD_CLOEXEC, 3));
  if (!descriptor_) {
    const std::string reason = errno_text();
    if (start != MAP_FAILED) ::munmap(start, size);
    range.taken = false;
    throw_failure("a file that can be mapped into memory", reason,
                  "check the limits on address space (ulimit -v) and open files (ulimit -n)");
  }
  range_ = &range;
  data_ = static_cast<const std::byte*>(start);
  range.readable = size;
  range.begin = reinterpret_cast<std::uintptr_t>(start);
  range.end = range.begin + size;
}

MappedFile::~MappedFile() {
  range_->end = 0;
  range_->begin = 0;
  ::munmap(const_cast<std::byte*>(data_), size_);
  range_->taken = false;
}

std::size_t MappedFile::intact() const {
  struct stat status;
  const std::size_t there =
      ::fstat(descriptor_.get(), &status) == 0 ? static_cast<std::size_t>(std::max<off_t>(status.st_size, 0)) : size_;
  return std::min({there, size_, range_->readable.load()});
}

void MappedFile::drop_pages() const { ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED); }

void throw_truncated(const std::string& name, std::size_t size, std::size_t intact, const std::string& lost) {
  throw_failure(fmt::format("{} to keep its {} bytes while it is read", name, size),
                fmt::format("{} bytes that can be read{}{}", intact, lost.empty() ? "" : ": ", lost),
                "do not change files that a run reads, or give it a copy");
}

}  // namespace halfstep
