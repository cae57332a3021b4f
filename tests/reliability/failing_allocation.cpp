#include "tests/reliability/failing_allocation.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> left{0};  // until the one that fails; 0: none does
std::atomic<bool> goes_on{false}, failed{false};

bool fails() {
  if (failed && goes_on) return true;
  if (left <= 0 || --left != 0) return false;
  failed = true;
  return true;
}

void* allocate(std::size_t size) { return fails() ? nullptr : std::malloc(size ? size : 1); }

}  // namespace

namespace halfstep::testing {

FailingAllocation::FailingAllocation(long n, bool for_good) {
  failed = false;
  goes_on = for_good;
  left = n;
}
FailingAllocation::~FailingAllocation() {
  left = 0;
  goes_on = false;
}
bool FailingAllocation::has_failed() const { return failed; }

}  // namespace halfstep::testing

extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  void* memory = nullptr;
  return fails() || ::posix_memalign(&memory, alignment, size) != 0 ? nullptr : memory;
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new(std::size_t size) {
  if (void* memory = allocate(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
