#include "distributed/nccl/watch.h"

#include <utility>

#include "distributed/signs_of_life.h"

namespace halfstep::nccl {

using Clock = Line::Clock;
using namespace std::chrono_literals;

Watch::Watch(Line line, std::chrono::milliseconds heartbeat, std::function<int(const SharedError&)> on_loss,
             void (*exit)(int))
    : on_loss_(std::move(on_loss)), exit_(exit), line_(std::move(line)) {
  line_.watch(heartbeat);
  look();  // the others are given a sign at once
  if (line_.watches()) thread_ = std::thread([this] { work(); });
}

void Watch::look() {
  line_.look(Clock::now());
  // An operation of any number: which one, only who asks knows.
  if (line_.missing(UINT64_MAX)) has_news_ = true;
}

std::optional<SharedError> Watch::missing(std::optional<std::uint64_t> operation) {
  const std::lock_guard lock(mutex_);
  look();
  std::optional<SharedError> why = operation ? line_.missing(*operation) : line_.loss();
  is_told_ = is_told_ || why;
  return why;
}

void Watch::leave(std::uint64_t operations, bool waits) noexcept {
  const std::lock_guard lock(mutex_);
  line_.leave(operations, waits && line_.watches());
}

void Watch::end(bool waits) {
  std::unique_lock lock(mutex_);
  while (waits && line_.watches() && !line_.is_over()) {
    changed_.wait_for(lock, 2ms);
    look();
  }
  const std::optional<SharedError> loss = line_.loss();
  const bool is_told = std::exchange(is_told_, true);
  lock.unlock();
  stop();
  if (loss && !is_told && on_loss_) exit_(on_loss_(*loss));
}

void Watch::stop() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watch::work() {
  std::unique_lock lock(mutex_);
  std::optional<Clock::time_point> lost_at;
  while (!ends_) {
    look();
    if (line_.loss()) {
      const auto now = Clock::now();
      lost_at = lost_at.value_or(now);
      // A program that does not call in computes on, or waits where nothing ends it, as for room in a stream.
      if (on_loss_ && !is_told_ && now - *lost_at >= kPatience) {
        is_told_ = true;
        const SharedError loss = *line_.loss();
        lock.unlock();
        return exit_(on_loss_(loss));
      }
    }
    changed_.wait_for(lock, line_.pause() / 2);
  }
}

}  // namespace halfstep::nccl
