#include "distributed/nccl/rendezvous.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <halfstep/base/error.h>
#include <halfstep/distributed/communicator.h>

namespace halfstep::nccl {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// What a rank says of itself when it comes.
struct Greeting {
  std::array<char, 16> what{"halfstep-nccl-1"};
  std::int32_t rank = 0, size = 0;
};

class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  int get() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

/// The time that is left, for poll.
int left_until(Clock::time_point end) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

/// Sends or receives all of `bytes`. False where the other end goes away or the time is over.
template <class Move>
bool move_all(const Socket& socket, std::span<std::byte> bytes, short event, Clock::time_point end, const Move& move) {
  while (!bytes.empty()) {
    pollfd wanted{socket.get(), event, 0};
    if (poll(&wanted, 1, left_until(end)) <= 0) return false;
    const ssize_t moved = move(socket.get(), bytes);
    if (moved <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(moved));
  }
  return true;
}
bool receive(const Socket& socket, std::span<std::byte> bytes, Clock::time_point end) {
  return move_all(socket, bytes, POLLIN, end,
                  [](int s, std::span<std::byte> part) { return recv(s, part.data(), part.size(), 0); });
}
bool send(const Socket& socket, std::span<std::byte> bytes, Clock::time_point end) {
  return move_all(socket, bytes, POLLOUT, end,
                  [](int s, std::span<std::byte> part) { return ::send(s, part.data(), part.size(), MSG_NOSIGNAL); });
}

std::string name_of(const MeetingPlace& place) {
  return place.host.empty() ? "the socket " + place.service : place.host + " port " + place.service;
}

/// Calls `use` with each address of the place until it returns a socket; what went wrong last otherwise.
template <class Use>
Socket at_place(const MeetingPlace& place, bool listens, std::string& why, const Use& use) {
  if (place.host.empty()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;  // a name that begins with a zero byte is no file
    const std::size_t length = std::min(place.service.size(), sizeof address.sun_path - 1);
    std::memcpy(address.sun_path + 1, place.service.data(), length);
    Socket result = use(AF_UNIX, reinterpret_cast<const sockaddr*>(&address),
                        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length));
    if (!result) why = std::strerror(errno);
    return result;
  }
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = listens ? AI_PASSIVE : 0;
  // Rank 0 listens wherever it is reached: the name may be one that other machines know it by.
  if (const int code = getaddrinfo(listens ? nullptr : place.host.c_str(), place.service.c_str(), &hints, &list)) {
    why = gai_strerror(code);
    return Socket();
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(list, freeaddrinfo);
  for (const addrinfo* one = list; one; one = one->ai_next) {
    Socket result = use(one->ai_family, one->ai_addr, one->ai_addrlen);
    if (result) return result;
    why = std::strerror(errno);
  }
  return Socket();
}

Socket listening(const MeetingPlace& place) {
  std::string why;
  Socket listener = at_place(place, true, why, [](int family, const sockaddr* address, socklen_t length) {
    Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int yes = 1;
    if (socket) setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (!socket || bind(socket.get(), address, length) != 0 || listen(socket.get(), SOMAXCONN) != 0) return Socket();
    return socket;
  });
  if (!listener)
    throw_failure("rank 0 to wait for the others at " + name_of(place), why, "set MASTER_PORT to a port that is free");
  return listener;
}

Socket connected(const MeetingPlace& place, Clock::time_point end, std::string& why) {
  while (Clock::now() < end) {
    Socket socket = at_place(place, false, why, [](int family, const sockaddr* address, socklen_t length) {
      Socket made(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (!made || connect(made.get(), address, length) != 0) return Socket();
      return made;
    });
    if (socket) return socket;
    std::this_thread::sleep_for(20ms);  // rank 0 may be on its way
  }
  return Socket();
}

[[noreturn]] void throw_absent(const MeetingPlace& place, const std::string& found, std::chrono::milliseconds limit) {
  throw SharedError(
      Error::Kind::failure,
      fmt::format("all ranks at {} within {:g} s", name_of(place), std::chrono::duration<double>(limit).count()), found,
      "MASTER_ADDR and MASTER_PORT say where rank 0 is; --distributed-timeout is the limit");
}

}  // namespace

MeetingPlace meeting_place(const Launch& launch, const std::function<const char*(const char* name)>& variable) {
  const char *host = variable("MASTER_ADDR"), *port = variable("MASTER_PORT");
  if (host && port) {
    const std::string_view digits(port);
    int number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || number < 1 || number > 65534)
      throw_input_error("a port from 1 to 65534 in MASTER_PORT", fmt::format("'{}'", port), "");
    return {.host = host, .service = fmt::format("{}", number + 1)};
  }
  if (launch.local_size != launch.size)
    throw_input_error(
        "MASTER_ADDR and MASTER_PORT, for ranks on several machines", "none of them, or one",
        "set them to the host name of rank 0 and a free port: mpirun -x MASTER_ADDR=... -x MASTER_PORT=29500");
  return {.host = {}, .service = fmt::format("halfstep-nccl-{}-{}", getuid(), getppid())};
}

std::optional<std::string> visible_device(const Launch& launch, const char* present) {
  if (launch.local_size == 1) return std::nullopt;
  if (!present) return fmt::format("{}", launch.local_rank);
  std::vector<std::string> devices;
  for (std::string_view rest = present; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    devices.emplace_back(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
  }
  if (devices.size() < static_cast<std::size_t>(launch.local_size)) return std::nullopt;
  return devices[static_cast<std::size_t>(launch.local_rank)];
}

void broadcast_from_first(const MeetingPlace& place, int rank, int size, std::span<std::byte> bytes,
                          std::chrono::milliseconds limit) {
  const Clock::time_point end = Clock::now() + limit;
  if (rank > 0) {
    std::string why = "no rank 0";
    // Rank 0 may not yet be the one that listens there: one that goes away unheard is tried again.
    while (Clock::now() < end) {
      const Socket socket = connected(place, end, why);
      Greeting greeting{.rank = rank, .size = size};
      if (socket && send(socket, std::as_writable_bytes(std::span(&greeting, 1)), end) && receive(socket, bytes, end))
        return;
      std::this_thread::sleep_for(20ms);
    }
    throw_absent(place, why, limit);
  }
  const Socket listener = listening(place);
  std::set<std::int32_t> seen;
  while (static_cast<int>(seen.size()) < size - 1) {
    pollfd wanted{listener.get(), POLLIN, 0};
    if (poll(&wanted, 1, left_until(end)) <= 0)
      throw_absent(place, fmt::format("{} of {} ranks", seen.size() + 1, size), limit);
    const Socket socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    Greeting expected{.size = size}, greeting;
    // Whoever else connects here says something else, or nothing.
    if (!socket || !receive(socket, std::as_writable_bytes(std::span(&greeting, 1)), std::min(end, Clock::now() + 5s)))
      continue;
    if (greeting.what != expected.what || greeting.size != size || greeting.rank < 1 || greeting.rank >= size) continue;
    if (send(socket, bytes, end)) seen.insert(greeting.rank);
  }
}

}  // namespace halfstep::nccl
