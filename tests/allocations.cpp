#include "tests/allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <string_view>

#include <dlfcn.h>

// In a file of its own: where the compiler can inline these, GCC 12 takes new and free for a mismatched pair.
namespace {

std::atomic<bool> is_counting{false};
std::atomic<long> allocations{0};
constexpr long kNone = -1, kFailed = -2;
thread_local long left_before_failure = kNone;

bool fails_now() {
  if (left_before_failure < 0 || left_before_failure-- > 0) return false;
  left_before_failure = kFailed;
  return true;
}

void count_allocation(const void* caller) {
  if (!is_counting) return;
  Dl_info info{};
  const bool known = dladdr(caller, &info) != 0 && info.dli_fname != nullptr;
  const bool is_onednn = known && std::string_view(info.dli_fname).find("libdnnl") != std::string_view::npos;
  allocations += !is_onednn;
}

}  // namespace

namespace halfstep::testing {

AllocationCounter::AllocationCounter() {
  allocations = 0;
  is_counting = true;
}
AllocationCounter::~AllocationCounter() { is_counting = false; }
long AllocationCounter::count() const { return allocations; }

FailingAllocation::FailingAllocation(long before) { left_before_failure = before; }
FailingAllocation::~FailingAllocation() { left_before_failure = kNone; }
bool FailingAllocation::has_failed() const { return left_before_failure == kFailed; }

}  // namespace halfstep::testing

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  count_allocation(__builtin_return_address(0));
  return std::malloc(size ? size : 1);
}
void* operator new(std::size_t size) {
  count_allocation(__builtin_return_address(0));
  if (fails_now()) throw std::bad_alloc();
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
