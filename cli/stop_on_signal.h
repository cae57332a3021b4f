// Ending long work early by a signal.
#pragma once

#include <atomic>
#include <csignal>

namespace halfstep::cli {

/// SIGINT and SIGTERM ask the work to stop at the next good moment; the second one ends the program at once.
class StopOnSignal {
 public:
  StopOnSignal() {
    requested = false;
    struct sigaction action = {};
    action.sa_handler = [](int) { requested = true; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, &before_interrupt_);
    sigaction(SIGTERM, &action, &before_terminate_);
  }
  ~StopOnSignal() {
    sigaction(SIGINT, &before_interrupt_, nullptr);
    sigaction(SIGTERM, &before_terminate_, nullptr);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  static inline std::atomic<bool> requested = false;
  static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

 private:
  struct sigaction before_interrupt_ = {}, before_terminate_ = {};
};

}  // namespace halfstep::cli
