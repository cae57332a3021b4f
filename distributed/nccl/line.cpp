#include "distributed/nccl/line.h"

#include <cerrno>
#include <span>

#include <fmt/format.h>
#include <sys/socket.h>

namespace halfstep::nccl {
namespace {

/// It is short, and the first that goes this way: the system keeps all of it.
void send(const Socket& socket, const Leaver& leaver) {
  if (socket) ::send(socket.get(), &leaver, sizeof leaver, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

void Line::leave(std::uint64_t operations) noexcept {
  std::array<char, 64> host{};
  gethostname(host.data(), host.size() - 1);
  Leaver own{.rank = rank_, .operations = operations};
  fmt::format_to_n(own.text.data(), own.text.size() - 1, "rank {} ({}), which has left", rank_, host.data());
  for (const End& end : ends_) send(end.socket, own);
}

void Line::take(const Leaver& leaver) {
  leavers_.push_back(leaver);
  if (rank_ != 0) return;
  for (const End& end : ends_)
    if (end.rank != leaver.rank) send(end.socket, leaver);
}

void Line::hear(End& end) {
  while (end.socket) {
    const auto rest = std::as_writable_bytes(std::span(&end.heard, 1)).subspan(end.received);
    const ssize_t received = recv(end.socket.get(), rest.data(), rest.size(), MSG_DONTWAIT);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && errno == EAGAIN) return;
    if (received <= 0) {
      end.socket = Socket();
      if (end.has_left || gone_) return;
      gone_ = end.rank;
      gone_at_ = std::chrono::steady_clock::now();
      return;
    }
    end.received += static_cast<std::size_t>(received);
    if (end.received < sizeof end.heard) continue;
    end.received = 0;
    end.heard.text.back() = '\0';
    end.has_left = end.has_left || end.heard.rank == end.rank;
    take(end.heard);
  }
}

std::optional<std::string> Line::missing(std::uint64_t number) {
  using namespace std::chrono_literals;
  for (End& end : ends_) hear(end);
  if (gone_ && std::chrono::steady_clock::now() - gone_at_ >= 2s) {
    Leaver gone{.rank = *std::exchange(gone_, std::nullopt)};
    fmt::format_to_n(gone.text.data(), gone.text.size() - 1, "rank {}, whose process is gone", gone.rank);
    take(gone);
  }
  for (const Leaver& leaver : leavers_)
    if (number >= leaver.operations) return leaver.text.data();
  return std::nullopt;
}

}  // namespace halfstep::nccl
