// Memory that runs out at a chosen moment.
#pragma once

namespace halfstep::testing {

/// While it lives, the n-th allocation of this process fails (n counts from 1), and with `for_good` all that follow.
/// Allocations are calls of `operator new` and of `aligned_alloc`, which tensors use. One at a time.
class FailingAllocation {
 public:
  explicit FailingAllocation(long n, bool for_good);
  ~FailingAllocation();
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;

  /// Whether there were so many.
  bool has_failed() const;
};

}  // namespace halfstep::testing
