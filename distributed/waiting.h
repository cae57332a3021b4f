// How threads wait for communication that is under way.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace halfstep {

/// What a thread does between two looks. Yields the core at first, and sleeps where the other ranks take their time.
inline void pause(std::chrono::steady_clock::duration waited) {
  using namespace std::chrono_literals;
  if (waited < 1ms)
    std::this_thread::yield();
  else
    std::this_thread::sleep_for(waited < 100ms ? 50us : 500us);
}

/// The time in which this process runs. While it is stopped, or its machine sleeps, the others may be as well, and that
/// they are not heard says nothing.
class RunningTime {
 public:
  using Clock = std::chrono::steady_clock;

  /// Since it was made. To be called more often than every `kLongest`, which is the most that counts of a pause.
  Clock::duration passed() {
    const Clock::time_point now = Clock::now();
    total_ += std::min<Clock::duration>(now - last_, kLongest);
    last_ = now;
    return total_;
  }

  static constexpr std::chrono::milliseconds kLongest{200};

 private:
  Clock::time_point last_ = Clock::now();
  Clock::duration total_{};
};

/// As `changed.wait_for`, in RunningTime.
template <class Done>
bool wait_running(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, std::chrono::milliseconds limit,
                  const Done& done) {
  RunningTime time;
  while (!done()) {
    const RunningTime::Clock::duration left = limit - time.passed();
    if (left <= left.zero()) return false;
    changed.wait_for(lock, std::min<RunningTime::Clock::duration>(left, RunningTime::kLongest / 4));
  }
  return true;
}

}  // namespace halfstep
