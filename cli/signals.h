// Handling of SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal closes) and SIGPIPE (the reader exits) during work.
#pragma once

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>

#include <unistd.h>

namespace halfstep::cli {

/// The exit code of a program ended by a signal, by the shells' convention.
constexpr int exit_code_of(int signal) { return 128 + signal; }

/// During its lifetime, the first SIGINT and the first SIGTERM call `handler`; the second of each ends the program.
/// With `also_hangup`, SIGHUP and SIGPIPE always call it, too, since users do not send these, unless they are ignored,
/// as under nohup.
class SignalScope {
 public:
  using Handler = void (*)(int signal);

  explicit SignalScope(Handler handler, bool also_hangup = false) {
    for (Entry& entry : entries_) {
      if (entry.once || also_hangup) entry.replaced = replace(entry, handler);
    }
  }
  ~SignalScope() {
    for (const Entry& entry : entries_)
      if (entry.replaced) sigaction(entry.signal, &entry.before, nullptr);
  }
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;

 private:
  struct Entry {
    int signal;
    bool once;
    bool replaced = false;
    struct sigaction before = {};
  };

  static bool replace(Entry& entry, Handler handler) {
    sigaction(entry.signal, nullptr, &entry.before);
    if (!entry.once && entry.before.sa_handler == SIG_IGN) return false;
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = entry.once ? static_cast<int>(SA_RESETHAND) : 0;
    return sigaction(entry.signal, &action, nullptr) == 0;
  }

  std::array<Entry, 4> entries_{{{SIGTERM, true}, {SIGINT, true}, {SIGHUP, false}, {SIGPIPE, false}}};
};

/// These signals request the work to stop at the next suitable point; a second SIGINT or SIGTERM ends the program at
/// once.
class StopOnSignal {
 public:
  StopOnSignal() : scope_(start(), true) {}

  static inline std::atomic<bool> requested = false;
  static inline std::atomic<int> signal = 0;
  static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
                "a signal handler writes them");

  /// The program's exit code after its work was stopped: 0 without a signal.
  static int exit_code() { return signal == 0 ? 0 : exit_code_of(signal); }

 private:
  static SignalScope::Handler start() {
    requested = false;
    signal = 0;
    return [](int number) {
      int none = 0;
      signal.compare_exchange_strong(none, number);
      requested = true;
    };
  }

  SignalScope scope_;
};

/// SIGINT and SIGTERM end the program at once (even if the shell ignores them for background jobs), with a message on
/// stderr: for work without a suitable point to stop, such as a model with an infinite loop. Only one may exist at a
/// time.
class EndOnSignal {
 public:
  /// `message` is a line including its end, and must live as long as the program.
  explicit EndOnSignal(const char* message) : scope_(start(message)) {}

 private:
  static inline std::atomic<const char*> message_ = nullptr;
  static_assert(std::atomic<const char*>::is_always_lock_free, "a signal handler reads it");

  static SignalScope::Handler start(const char* message) {
    message_ = message;
    return [](int signal) {
      const char* text = message_;
      [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
      std::raise(signal);  // delivered after this returns, with the default action
    };
  }

  SignalScope scope_;
};

}  // namespace halfstep::cli
