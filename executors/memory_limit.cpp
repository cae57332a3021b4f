#include "executors/memory_limit.h"

namespace halfstep {
namespace {

std::optional<std::size_t>& limit() {
  thread_local std::optional<std::size_t> bytes;
  return bytes;
}

LeastMemory*& least() {
  thread_local LeastMemory* innermost = nullptr;
  return innermost;
}

}  // namespace

MemoryLimit::MemoryLimit(std::size_t bytes) : before_(std::exchange(limit(), bytes)) {}
MemoryLimit::~MemoryLimit() { limit() = before_; }
std::optional<std::size_t> MemoryLimit::of_thread() { return limit(); }

LeastMemory::LeastMemory(bool is_wanted) : is_wanted_(is_wanted), before_(std::exchange(least(), this)) {}
LeastMemory::~LeastMemory() { least() = before_; }
bool LeastMemory::decide() {
  LeastMemory* const here = least();
  if (here) here->decides_ = true;
  return here && here->is_wanted_;
}

}  // namespace halfstep
