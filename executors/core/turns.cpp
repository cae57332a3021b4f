#include "executors/core/turns.h"

#include <utility>

namespace halfstep::core {
namespace {

/// Of this thread.
Turns::Turn*& innermost() {
  thread_local Turns::Turn* turn = nullptr;
  return turn;
}

}  // namespace

Turns::Turn::Turn(Turns& turns) : turns_(turns), outer_(innermost()), is_first_(true) {
  for (const Turn* other = outer_; other; other = other->outer_)
    if (&other->turns_ == &turns) is_first_ = false;
  if (is_first_) turns_.take();
  innermost() = this;
}

Turns::Turn::~Turn() {
  innermost() = outer_;
  if (is_first_) turns_.pass();
}

Turns::Pause::Pause(bool waits) : paused_(waits ? std::exchange(innermost(), nullptr) : nullptr) {
  for (const Turn* turn = paused_; turn; turn = turn->outer_)
    if (turn->is_first_) turn->turns_.pass();
}

Turns::Pause::~Pause() {
  if (!paused_) return;
  take_all(paused_);
  innermost() = paused_;
}

/// In the order in which they were taken first.
void Turns::take_all(Turn* innermost) {
  if (!innermost) return;
  take_all(innermost->outer_);
  if (innermost->is_first_) innermost->turns_.take();
}

void Turns::take() {
  std::unique_lock lock(mutex_);
  const std::uint64_t own = asked_++;
  changed_.wait(lock, [&] { return passed_ == own; });
}

void Turns::pass() {
  {
    const std::lock_guard lock(mutex_);
    ++passed_;
  }
  changed_.notify_all();
}

}  // namespace halfstep::core
