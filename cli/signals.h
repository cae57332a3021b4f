// What SIGINT (Ctrl-C) and SIGTERM do while work is under way.
#pragma once

#include <atomic>
#include <csignal>
#include <cstring>

#include <unistd.h>

namespace halfstep::cli {

/// Has the first SIGINT and the first SIGTERM call `handler` while it lives; the second of each ends the program.
class SignalScope {
 public:
  using Handler = void (*)(int signal);

  explicit SignalScope(Handler handler) {
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGTERM, &action, &before_terminate_);
    sigaction(SIGINT, &action, &before_interrupt_);
  }
  ~SignalScope() {
    sigaction(SIGINT, &before_interrupt_, nullptr);
    sigaction(SIGTERM, &before_terminate_, nullptr);
  }
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;

 private:
  struct sigaction before_interrupt_ = {}, before_terminate_ = {};
};

/// SIGINT and SIGTERM ask the work to stop at the next good moment; the second one ends the program at once.
class StopOnSignal {
 public:
  StopOnSignal() : scope_(start()) {}

  static inline std::atomic<bool> requested = false;
  /// Of the program that was stopped, as a shell has it for one that a signal ended: 130 for SIGINT, 143 for SIGTERM.
  static int exit_code() { return 128 + signal_; }

 private:
  static inline std::atomic<int> signal_ = 0;
  static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
                "a signal handler writes them");

  static SignalScope::Handler start() {
    requested = false;
    return [](int signal) {
      signal_ = signal;
      requested = true;
    };
  }

  SignalScope scope_;
};

/// SIGINT and SIGTERM end the program at once (even where a shell that runs it in the background has them ignored),
/// with a word on stderr: for work that has no good moment to stop, such as a model whose loop never ends. One at a
/// time.
class EndOnSignal {
 public:
  /// `message` is a line with its end, and lives as long as the program.
  explicit EndOnSignal(const char* message) : scope_(start(message)) {}

 private:
  static inline std::atomic<const char*> message_ = nullptr;
  static_assert(std::atomic<const char*>::is_always_lock_free, "a signal handler reads it");

  static SignalScope::Handler start(const char* message) {
    message_ = message;
    return [](int signal) {
      const char* text = message_;
      [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
      std::raise(signal);  // comes when this returns, and finds the default action
    };
  }

  SignalScope scope_;
};

}  // namespace halfstep::cli
