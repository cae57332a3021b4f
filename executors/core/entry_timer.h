// Times of the entries of a plan, from the start of an execution.
#pragma once

#include <chrono>

#include <halfstep/executors/timed_program.h>

namespace halfstep::core {

class EntryTimer {
 public:
  template <class Work>
  EntryTime time(const Work& work) const {
    const Clock::time_point before = Clock::now();
    work();
    const Clock::time_point after = Clock::now();
    return {seconds(before - start_), seconds(after - before)};
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

  Clock::time_point start_ = Clock::now();
};

}  // namespace halfstep::core
