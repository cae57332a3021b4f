#include "graph/pages.h"

#include <cstdint>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

namespace halfstep {
namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21;

/// Null where there is no room.
std::byte* map_anonymous(std::size_t bytes) {
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<std::byte*>(p);
}

std::shared_ptr<void> owned(std::byte* p, std::size_t bytes) {
  return {p, [bytes](void* q) { ::munmap(q, bytes); }};
}

/// Where pages are many, huge ones are asked for: they cost one fault for 512, and those at the ends stay small, so
/// that no memory is lost. Null where there is no room to align them.
std::byte* map_aligned(std::size_t bytes) {
  std::byte* const reserved = map_anonymous(bytes + kHugePage);
  if (!reserved) return nullptr;
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(reserved) % kHugePage;
  std::byte* const p = reserved + before;
  if (before > 0) ::munmap(reserved, before);
  ::munmap(p + bytes, kHugePage - before);
  ::madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}

}  // namespace

std::shared_ptr<void> map_pages(std::size_t bytes) {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  bytes = (bytes + page - 1) / page * page;
  std::byte* p = bytes < kHugePage ? nullptr : map_aligned(bytes);
  if (!p) p = map_anonymous(bytes);
  if (!p) throw std::bad_alloc();
  return owned(p, bytes);
}

}  // namespace halfstep
