// Threads that use the same thing, one at a time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Turns of threads, which have them in the order in which they ask.
class Turns {
 public:
  /// While one lives its thread has the turn. The thread may make another meanwhile.
  class Turn {
   public:
    explicit Turn(Turns& turns);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    friend class Turns;
    Turns& turns_;
    Turn* outer_;  // of the same thread
    bool is_first_;
  };

  /// While one lives its thread, which waits for other threads, has none of the turns that it had; unless `waits` is
  /// false, when it does not.
  class Pause {
   public:
    explicit Pause(bool waits = true);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Turn* paused_;
  };

 private:
  void take();
  void pass();
  static void take_all(Turn* innermost);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t asked_ = 0, passed_ = 0;
};

}  // namespace core
}  // namespace halfstep
