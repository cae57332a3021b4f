#include "tests/data/allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

// In a file of its own: where the compiler can inline these, GCC 12 takes new and free for a mismatched pair.
namespace {
std::atomic<long> count{0};
}

long halfstep::testing::allocations() { return count; }

void* operator new(std::size_t size) {
  ++count;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
