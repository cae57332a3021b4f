// Counts allocations, and has them fail.
#pragma once

namespace halfstep::testing {

/// Counts calls of `operator new` while it lives, from any thread. Those of oneDNN, which builds a map of arguments in
/// every call of a primitive, do not count. One at a time.
class AllocationCounter {
 public:
  AllocationCounter();
  ~AllocationCounter();
  AllocationCounter(const AllocationCounter&) = delete;
  AllocationCounter& operator=(const AllocationCounter&) = delete;

  long count() const;
};

/// While it lives, the allocation of this thread that has `before` ones before it throws std::bad_alloc.
class FailingAllocation {
 public:
  explicit FailingAllocation(long before);
  ~FailingAllocation();
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;

  /// Whether it has failed.
  bool has_failed() const;
};

}  // namespace halfstep::testing
