// Signals that arrive while a program of the oneDNN executor runs.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/executors/onednn_testing.h"

namespace halfstep::testing {
namespace {

/// Where a thread's stack is; nowhere for a thread that is not watched.
struct Stack {
  std::uintptr_t begin = 0, end = 0;
};
thread_local Stack stack;
std::atomic<int> handled = 0, off_the_stack = 0;

Stack own_stack() {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* low = nullptr;
  std::size_t bytes = 0;
  pthread_attr_getstack(&attributes, &low, &bytes);
  pthread_attr_destroy(&attributes);
  const auto begin = reinterpret_cast<std::uintptr_t>(low);
  return {begin, begin + bytes};
}

void on_signal(int) {
  const int local = 0;
  const auto at = reinterpret_cast<std::uintptr_t>(&local);
  if (stack.end == 0) return;
  ++handled;
  if (at < stack.begin || at >= stack.end) ++off_the_stack;
}

/// Sends SIGUSR1 to every other thread of the process, over and over while it lives.
class SignalStorm {
 public:
  SignalStorm() {
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGUSR1, &action, &before_);
    thread_ = std::thread([this] {
      const long own = ::syscall(SYS_gettid);
      while (!ended_) {
        for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))
          if (const long id = std::stol(task.path().filename()); id != own)
            ::syscall(SYS_tgkill, ::getpid(), id, SIGUSR1);
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    });
  }
  ~SignalStorm() {
    ended_ = true;
    thread_.join();
    ::sigaction(SIGUSR1, &before_, nullptr);
  }
  SignalStorm(const SignalStorm&) = delete;
  SignalStorm& operator=(const SignalStorm&) = delete;

 private:
  struct sigaction before_ = {};
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

// oneDNN's generated products use the stack register for other things (oneDNN issue 4845): what a handler puts on the
// stack then lands on the heap.
TEST(OneDnnSignals, FindEachThreadOnItsStack) {
  // OpenMP's threads are there before the executor is, as in a program that uses OpenMP itself.
#pragma omp parallel num_threads(2)
  stack = own_stack();
  TestGraph t;
  Expr x = t.input(DType::f32, {96, 3136}), w = t.state("w", {3136, 512});
  t.output(t.b.op("MatMul", {x, w}));
  Compiled compiled(make_onednn_executor({.threads = 2}), t.graph);
  set_input(*compiled.program, 0, random_tensor(DType::f32, {96, 3136}, 3));
  compiled.program->run();
  const std::vector<double> expected = to_doubles(compiled.program->output(0));

  handled = off_the_stack = 0;
  {
    const SignalStorm storm;
    while (handled < 200) compiled.program->run();
  }
  EXPECT_EQ(off_the_stack, 0);
  EXPECT_EQ(to_doubles(compiled.program->output(0)), expected);
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(sigismember(&mask, SIGUSR1), 0) << "the caller's mask is what it was";
}

}  // namespace
}  // namespace halfstep::testing
