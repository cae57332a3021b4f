#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include <halfstep/conformance/crash_note.h>

namespace halfstep {
namespace {

struct FatalSignal {
  int number;
  const char* name;
};
constexpr std::array<FatalSignal, 6> kSignals = {{{SIGSEGV, "SIGSEGV (invalid memory access)"},
                                                  {SIGBUS, "SIGBUS (invalid memory access)"},
                                                  {SIGFPE, "SIGFPE (invalid arithmetic)"},
                                                  {SIGILL, "SIGILL (invalid instruction)"},
                                                  {SIGABRT, "SIGABRT (abort)"},
                                                  {SIGALRM, "SIGALRM (out of time)"}}};
constexpr std::size_t kStackBytes = 64 << 10;

// A handler may read these alone.
std::array<char, 4096> text;
volatile std::sig_atomic_t length = 0;
std::array<struct sigaction, kSignals.size()> previous;

void write_all(const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t written = write(STDERR_FILENO, bytes, count);
    if (written <= 0) return;
    bytes += written;
    count -= static_cast<std::size_t>(written);
  }
}

void write_note(const char* cause) {
  const auto count = static_cast<std::size_t>(length);
  length = 0;
  if (count == 0) return;
  write_all("\n", 1);
  write_all(cause, std::strlen(cause));
  write_all(" in ", 4);
  write_all(text.data(), count);
  write_all("\n", 1);
}

// The signal comes again when the handler returns, to whoever handled it before.
void on_signal(int number) {
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i].number != number) continue;
    write_note(kSignals[i].name);
    sigaction(number, &previous[i], nullptr);
  }
  raise(number);
}

void on_exit() { write_note("exit"); }

// A stack that has overflowed cannot serve the handler.
void use_stack_of_its_own() {
  static std::vector<std::byte> memory(kStackBytes);
  stack_t stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  sigaltstack(&stack, nullptr);
}

}  // namespace

CrashNote::CrashNote() {
  static const bool registered = [] {
    use_stack_of_its_own();
    return std::atexit(on_exit) == 0;
  }();
  static_cast<void>(registered);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_ONSTACK;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i].number, &action, &previous[i]);
}

CrashNote::~CrashNote() {
  end();
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i].number, &previous[i], nullptr);
}

void CrashNote::begin(std::string_view note, unsigned seconds) {
  length = 0;
  const std::size_t count = std::min(note.size(), text.size());
  std::copy_n(note.data(), count, text.data());
  length = static_cast<std::sig_atomic_t>(count);
  alarm(seconds);
}

void CrashNote::end() {
  alarm(0);
  length = 0;
}

void limit_growth(std::size_t bytes) {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit{};
  if (pages == 0 || getrlimit(RLIMIT_AS, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + bytes);
  setrlimit(RLIMIT_AS, &limit);
}

}  // namespace halfstep
