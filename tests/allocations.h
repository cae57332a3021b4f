// Counts allocations.
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

}  // namespace halfstep::testing
