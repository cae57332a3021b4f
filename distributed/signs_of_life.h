// The rule by which ranks tell each other that they are there, whatever they tell it by.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "distributed/shared_errors.h"

namespace halfstep {

/// How long a program that learns of a lost rank has to call in before a thread tells it for it.
inline constexpr std::chrono::seconds kPatience{5};

/// Signs that a rank gives, and those of some others that it listens to. A thread that does nothing else looks again
/// and again, so that silence says something of a process, not of what it computes.
class SignsOfLife {
 public:
  using Clock = std::chrono::steady_clock;

  /// `limit`: after how long a silent rank is taken for lost. 0: no silence is too long.
  explicit SignsOfLife(std::chrono::milliseconds limit = {}, std::size_t others = 0)
      : limit_(limit), heard_at_(others) {}

  bool watches() const { return limit_.count() > 0; }
  /// At least how often to look.
  std::chrono::milliseconds pause() const {
    using namespace std::chrono_literals;
    return watches() ? std::clamp<std::chrono::milliseconds>(limit_ / 40, 5ms, 500ms) : 500ms;
  }
  bool is_time(Clock::time_point now) const { return now - looked_at_ >= pause() / 2; }

  /// Begins a look. Where this process was stopped, or got no time itself, what it has not heard meanwhile says nothing
  /// of others.
  void look(Clock::time_point now) {
    if (now - looked_at_ > limit_ / 4)
      for (auto& at : heard_at_)
        if (at) at = now;
    looked_at_ = now;
  }

  /// Another is listened to from the first sign on, and until it tells nothing more.
  void hear(std::size_t other, Clock::time_point now) { heard_at_[other] = now; }
  void forget(std::size_t other) { heard_at_[other].reset(); }

  /// Whether to give a sign. The first tells the name, also where nobody is watched.
  bool is_due(Clock::time_point now) const {
    return watches() ? now - sent_at_ >= limit_ / 20 : sent_at_ == Clock::time_point();
  }
  void give(Clock::time_point now) { sent_at_ = now; }

  /// One that has been silent for too long.
  std::optional<std::size_t> silent(Clock::time_point now) const {
    const auto at = std::ranges::find_if(heard_at_, [&](const auto& heard) { return heard && now - *heard > limit_; });
    if (!watches() || at == heard_at_.end()) return std::nullopt;
    return static_cast<std::size_t>(at - heard_at_.begin());
  }
  SharedError loss_of(const std::string& name) const { return no_sign_of_life(name, limit_); }

 private:
  std::chrono::milliseconds limit_;
  std::vector<std::optional<Clock::time_point>> heard_at_;
  Clock::time_point looked_at_ = {}, sent_at_ = {};
};

}  // namespace halfstep
