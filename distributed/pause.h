// What a thread does between two looks at communication that is under way.
#pragma once

#include <chrono>
#include <thread>

namespace halfstep {

/// Yields the core at first, and sleeps where the other ranks take their time.
inline void pause(std::chrono::steady_clock::duration waited) {
  using namespace std::chrono_literals;
  if (waited < 1ms)
    std::this_thread::yield();
  else
    std::this_thread::sleep_for(waited < 100ms ? 50us : 500us);
}

}  // namespace halfstep
