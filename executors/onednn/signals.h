// Signals while oneDNN's kernels run.
#pragma once

#include <csignal>

namespace halfstep::onednn {

/// Postpones signals to this thread and to the OpenMP threads that work for it, but for those that say a fault (SIGSEGV
/// and its like). The matrix products that oneDNN before 3.12 generates keep a pointer to their workspace in the stack
/// register: a handler that is called meanwhile has its frame on the heap, and overwrites what lies below that
/// workspace (https://github.com/uxlfoundation/oneDNN/issues/4845). A postponed signal goes to another thread, or to
/// this one when the scope ends.
class SignalsPostponed {
 public:
  /// For teams of up to `threads`. With a oneDNN that does not need it, does nothing.
  explicit SignalsPostponed(int threads);
  ~SignalsPostponed();
  SignalsPostponed(const SignalsPostponed&) = delete;
  SignalsPostponed& operator=(const SignalsPostponed&) = delete;

 private:
  sigset_t before_;
};

}  // namespace halfstep::onednn
