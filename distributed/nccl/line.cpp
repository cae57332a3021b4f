#include "distributed/nccl/line.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include <fmt/format.h>
#include <sys/socket.h>

namespace halfstep::nccl {
namespace {

using namespace std::chrono_literals;

/// How long a process that is gone without a word may still have done its part.
constexpr auto kGone = 2s;

void put(Message& message, const std::string& text) {
  message.text = {};
  std::strncpy(message.text.data(), text.c_str(), message.text.size() - 1);
}

}  // namespace

Line::Line(int rank) : rank_(rank) {
  own_.rank = rank;
  put(own_, name_of_own_process(rank));
}

void Line::flush(End& end) {
  while (end.socket && !end.unsent.empty()) {
    const ssize_t sent = ::send(end.socket.get(), end.unsent.data(), end.unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;  // it takes nothing now, or is gone, which is heard
    end.unsent.erase(end.unsent.begin(), end.unsent.begin() + sent);
  }
}

void Line::send(End& end, const Message& message) {
  if (!end.socket) return;
  const auto bytes = std::as_bytes(std::span(&message, 1));
  end.unsent.insert(end.unsent.end(), bytes.begin(), bytes.end());
  flush(end);
}

void Line::take_leaver(const Message& leaver) {
  leavers_.push_back(leaver);
  has_given_up_ = has_given_up_ || leaver.kind == Message::Kind::gives_up;
  if (rank_ != 0) return;
  for (End& end : ends_)
    if (end.rank != leaver.rank) send(end, leaver);
}

void Line::take(End& end, const Message& message) {
  switch (message.kind) {
    case Message::Kind::beat:
      end.name = message.text.data();
      break;
    case Message::Kind::leaves:
    case Message::Kind::gives_up:
      end.has_left = end.has_left || message.rank == end.rank;
      take_leaver(message);
      break;
    case Message::Kind::last:
      is_last_heard_ = true;
      break;
    case Message::Kind::loss:
      if (!loss_) loss_ = signs_.loss_of(message.text.data());
      break;
  }
}

void Line::hear(std::size_t i, Clock::time_point now) {
  End& end = ends_[i];
  while (end.socket) {
    const auto rest = std::as_writable_bytes(std::span(&end.heard, 1)).subspan(end.received);
    const ssize_t received = recv(end.socket.get(), rest.data(), rest.size(), MSG_DONTWAIT);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && errno == EAGAIN) return;
    if (received <= 0) {
      end.socket = Socket();
      signs_.forget(i);
      if (!end.has_left) end.gone_at = now;
      return;
    }
    signs_.hear(i, now);
    end.received += static_cast<std::size_t>(received);
    if (end.received < sizeof end.heard) continue;
    end.received = 0;
    end.heard.text.back() = '\0';
    take(end, end.heard);
    const bool gives_up = end.heard.kind == Message::Kind::gives_up && end.heard.rank == end.rank;
    if (gives_up || is_last_heard_) signs_.forget(i);  // it tells nothing more
  }
}

void Line::take_gone(End& end, Clock::time_point now) {
  if (!end.gone_at || end.has_left || now - *end.gone_at < kGone) return;
  end.has_left = true;
  Message gone{.kind = Message::Kind::gives_up, .rank = end.rank};
  put(gone, fmt::format("{}, whose process is gone", end.name.empty() ? fmt::format("rank {}", end.rank) : end.name));
  take_leaver(gone);
}

void Line::look(Clock::time_point now) {
  signs_.look(now);
  for (std::size_t i = 0; i < ends_.size(); ++i) hear(i, now);
  for (End& end : ends_) {
    take_gone(end, now);
    flush(end);
  }
  if (signs_.is_due(now)) {
    signs_.give(now);
    // Nothing behind what has not gone yet: a rank that takes nothing is silent itself.
    for (End& end : ends_)
      if (end.unsent.empty()) send(end, own_);
  }
  if (loss_) return;
  const std::optional<std::size_t> silent = signs_.silent(now);
  if (!silent) return;
  const End& lost = ends_[*silent];
  const std::string name = lost.name.empty() ? fmt::format("rank {}", lost.rank) : lost.name;
  loss_ = signs_.loss_of(name);
  Message news{.kind = Message::Kind::loss, .rank = lost.rank};
  put(news, name);
  for (End& end : ends_)
    if (end.rank != lost.rank) send(end, news);
}

std::optional<SharedError> Line::missing(std::uint64_t number) const {
  if (loss_) return loss_;
  const auto leaver = std::ranges::find_if(leavers_, [&](const Message& each) { return number >= each.operations; });
  return leaver == leavers_.end() ? std::nullopt : std::optional(rank_has_left(leaver->text.data()));
}

void Line::leave(std::uint64_t operations, bool waits) noexcept {
  if (std::exchange(has_told_, true)) return;
  Message leaver{
      .kind = waits ? Message::Kind::leaves : Message::Kind::gives_up, .rank = rank_, .operations = operations};
  put(leaver, fmt::format("{}, which has left", own_.text.data()));
  for (End& end : ends_) send(end, leaver);
}

bool Line::is_over() {
  if (loss_ || has_given_up_ || is_last_heard_) return true;
  const auto is_gone = [](const End& end) { return end.has_left || !end.socket; };
  if (rank_ != 0) return std::ranges::none_of(ends_, [](const End& end) { return static_cast<bool>(end.socket); });
  if (!std::ranges::all_of(ends_, is_gone)) return false;
  Message last = own_;
  last.kind = Message::Kind::last;
  if (!std::exchange(is_last_told_, true))
    for (End& end : ends_) send(end, last);
  return std::ranges::all_of(ends_, [](const End& end) { return !end.socket || end.unsent.empty(); });
}

}  // namespace halfstep::nccl
