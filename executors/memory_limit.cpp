#include "executors/memory_limit.h"

namespace halfstep {
namespace {

std::optional<std::size_t>& limit() {
  thread_local std::optional<std::size_t> bytes;
  return bytes;
}

}  // namespace

MemoryLimit::MemoryLimit(std::size_t bytes) : before_(std::exchange(limit(), bytes)) {}
MemoryLimit::~MemoryLimit() { limit() = before_; }
std::optional<std::size_t> MemoryLimit::of_thread() { return limit(); }

}  // namespace halfstep
