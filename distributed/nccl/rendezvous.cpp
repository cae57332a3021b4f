#include "distributed/nccl/rendezvous.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
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

/// How long one of two may take to say all that it has to.
constexpr auto kGreetingTime = 5s;

/// Ranks, up to which rank 0 keeps its connections: a process has only so many files.
constexpr int kMostKept = 512;

constexpr std::array<char, 16> kProtocol{"halfstep-nccl-3"};

/// What a rank says of itself when it comes.
struct Greeting {
  std::array<char, 16> protocol = kProtocol;
  std::int32_t rank = 0, size = 0;
  std::array<char, 256> secret{};

  Greeting() = default;
  Greeting(const MeetingPlace& place, int own, int all) : rank(own), size(all) {
    std::memcpy(secret.data(), place.secret.data(), std::min(place.secret.size(), secret.size()));
  }
  bool is_of(const Greeting& group) const {
    unsigned char difference = 0;  // looks at all of it, so that the time says nothing
    for (std::size_t i = 0; i < secret.size(); ++i)
      difference = static_cast<unsigned char>(difference | (secret[i] ^ group.secret[i]));
    return protocol == group.protocol && difference == 0 && size == group.size && rank >= 1 && rank < size;
  }
};

/// What rank 0 says before the bytes.
struct Answer {
  std::array<char, 16> protocol = kProtocol;
  std::uint64_t bytes = 0;
};

/// The time that is left, for poll.
int left_until(Clock::time_point end) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

bool is_for_later() { return errno == EAGAIN || errno == EINTR; }

/// Sends or receives all of `bytes`. False where the other end goes away or the time is over.
template <class Move>
bool move_all(const Socket& socket, std::span<std::byte> bytes, short event, Clock::time_point end, const Move& move) {
  while (!bytes.empty()) {
    pollfd wanted{socket.get(), event, 0};
    const int ready = poll(&wanted, 1, left_until(end));
    if (ready == 0 || (ready < 0 && errno != EINTR)) return false;
    const ssize_t moved = move(socket.get(), bytes);
    if (moved > 0) bytes = bytes.subspan(static_cast<std::size_t>(moved));
    if (moved == 0 || (moved < 0 && !is_for_later())) return false;
  }
  return true;
}
ssize_t receive_some(int socket, std::span<std::byte> bytes) {
  return recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
}
bool receive(const Socket& socket, std::span<std::byte> bytes, Clock::time_point end) {
  return move_all(socket, bytes, POLLIN, end, receive_some);
}
bool send(const Socket& socket, std::span<std::byte> bytes, Clock::time_point end) {
  return move_all(socket, bytes, POLLOUT, end, [](int s, std::span<std::byte> part) {
    return ::send(s, part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  });
}
template <class T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

/// Whether the process at the other end may be one of this job. A name on this machine may be taken by any user.
bool is_own(const MeetingPlace& place, const Socket& socket) {
  ucred other{};
  socklen_t length = sizeof other;
  return !place.host.empty() ||
         (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &other, &length) == 0 && other.uid == getuid());
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

/// False, with errno set, where nobody takes the connection in time.
bool connect_until(const Socket& socket, const sockaddr* address, socklen_t length, Clock::time_point end) {
  if (connect(socket.get(), address, length) == 0) return true;
  if (errno != EINPROGRESS) return false;
  pollfd wanted{socket.get(), POLLOUT, 0};
  int code = ETIMEDOUT;
  socklen_t size = sizeof code;
  if (poll(&wanted, 1, left_until(end)) > 0) getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &code, &size);
  errno = code;
  return code == 0;
}

Socket connected(const MeetingPlace& place, Clock::time_point end, std::string& why) {
  return at_place(place, false, why, [&](int family, const sockaddr* address, socklen_t length) {
    Socket made(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made || !connect_until(made, address, length, end)) return Socket();
    return made;
  });
}

/// Fetches the bytes from rank 0; none, and why, where it is not there or is another.
Socket fetch(const MeetingPlace& place, Greeting own, std::span<std::byte> bytes, Clock::time_point end,
             std::string& why) {
  Socket socket = connected(place, end, why);
  if (!socket) return socket;
  Answer answer;
  why = "another program, or a rank 0 of another job or secret";
  const bool is_first = is_own(place, socket) && send(socket, bytes_of(own), end) &&
                        receive(socket, bytes_of(answer), end) && answer.protocol == kProtocol &&
                        answer.bytes == bytes.size() && receive(socket, bytes, end);
  return is_first ? std::move(socket) : Socket();
}

/// Rank 0, to which others come.
class Host {
 public:
  Host(const MeetingPlace& place, int size, std::span<std::byte> bytes)
      : place_(place), group_(place, 0, size), bytes_(bytes), listener_(listening(place)) {}

  /// Returns when all have been told, or the time is over.
  void serve(Clock::time_point end) {
    while (told() + 1 < group_.size && Clock::now() < end) {
      std::vector<pollfd> wanted{{listener_.get(), POLLIN, 0}};
      Clock::time_point next = end;
      for (const Guest& guest : guests_) {
        wanted.push_back({guest.socket.get(), POLLIN, 0});
        next = std::min(next, guest.until);
      }
      if (poll(wanted.data(), wanted.size(), left_until(next) + 1) < 0 && errno != EINTR) return;
      const Clock::time_point now = Clock::now();
      for (std::size_t i = 0; i < guests_.size(); ++i)
        if (wanted[i + 1].revents != 0) listen_to(guests_[i]);
      for (Guest& guest : guests_)
        if (guest.until < now) turn_away(guest);
      std::erase_if(guests_, [](const Guest& guest) { return !guest.socket; });
      if (wanted[0].revents != 0) take();
    }
  }
  int told() const { return static_cast<int>(told_.size()); }
  /// To those whose connections were kept.
  int strangers() const { return strangers_; }
  Line line() {
    Line line(0);
    for (auto& [rank, socket] : told_)
      if (socket) line.add(rank, std::move(socket));
    return line;
  }

 private:
  struct Guest {
    Socket socket;
    Clock::time_point until;
    Greeting greeting = {};
    std::size_t received = 0;
  };

  void take() {
    Socket socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      // Whoever waits comes to nothing before a file is free: those of ranks that have been told are, soon.
      if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(20ms);
      return;
    }
    // Ranks say at once what they are: who has been silent for longest is none.
    if (guests_.size() >= static_cast<std::size_t>(group_.size) + kStrangers) {
      ++strangers_;
      guests_.erase(guests_.begin());
    }
    guests_.push_back({std::move(socket), Clock::now() + kGreetingTime});
  }
  void turn_away(Guest& guest) {
    ++strangers_;
    guest.socket = Socket();
  }
  void listen_to(Guest& guest) {
    const ssize_t received = receive_some(guest.socket.get(), bytes_of(guest.greeting).subspan(guest.received));
    if (received < 0 && is_for_later()) return;
    if (received <= 0) return turn_away(guest);
    guest.received += static_cast<std::size_t>(received);
    if (guest.received < sizeof guest.greeting) return;
    if (!guest.greeting.is_of(group_) || !is_own(place_, guest.socket)) return turn_away(guest);
    Answer answer{.bytes = bytes_.size()};
    // All of it fits into what the system keeps of a new connection.
    const auto now = Clock::now();
    if (send(guest.socket, bytes_of(answer), now) && send(guest.socket, bytes_, now))
      told_[guest.greeting.rank] = group_.size <= kMostKept ? std::move(guest.socket) : Socket();
    guest.socket = Socket();
  }

  static constexpr std::size_t kStrangers = 64;
  const MeetingPlace& place_;
  const Greeting group_;
  const std::span<std::byte> bytes_;
  const Socket listener_;
  std::vector<Guest> guests_;  // the first has been there for longest
  std::map<std::int32_t, Socket> told_;
  int strangers_ = 0;
};

[[noreturn]] void throw_absent(const MeetingPlace& place, const std::string& found, std::chrono::milliseconds limit) {
  throw SharedError(
      Error::Kind::failure,
      fmt::format("all ranks at {} within {:g} s", name_of(place), std::chrono::duration<double>(limit).count()), found,
      "MASTER_ADDR and MASTER_PORT say where rank 0 is, and HALFSTEP_SECRET, where it is set, is the same on all "
      "ranks; "
      "--distributed-timeout is the limit");
}

/// Of the variables that all ranks of a job have alike, and no other job has, the first that is set. They are those of
/// the launcher: what another one has left, which started a torchrun on each machine, may differ between machines.
std::string secret_of(const Launch& launch, const std::function<const char*(const char* name)>& variable) {
  const bool is_torchrun = launch.launcher == "torchrun";
  const std::initializer_list<const char*> of_torchrun{"HALFSTEP_SECRET", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"},
      of_others{"HALFSTEP_SECRET", "OMPI_MCA_orte_precondition_transports", "PMIX_NAMESPACE", "SLURM_JOB_ID"};
  for (const char* name : is_torchrun ? of_torchrun : of_others)
    if (const char* value = variable(name); value && *value) return fmt::format("{}={}", name, value);
  return "";
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
    return {.host = host, .service = fmt::format("{}", number + 1), .secret = secret_of(launch, variable)};
  }
  if (launch.local_size != launch.size)
    throw_input_error(
        "MASTER_ADDR and MASTER_PORT, for ranks on several machines", "none of them, or one",
        "set them to the host name of rank 0 and a free port: mpirun -x MASTER_ADDR=... -x MASTER_PORT=29500");
  return {.host = {},
          .service = fmt::format("halfstep-nccl-{}-{}", getuid(), getppid()),
          .secret = secret_of(launch, variable)};
}

Line broadcast_from_first(const MeetingPlace& place, int rank, int size, std::span<std::byte> bytes,
                          std::chrono::milliseconds limit) {
  const Clock::time_point end = Clock::now() + limit;
  if (rank > 0) {
    std::string why = "no rank 0";
    // Rank 0 may be on its way, and another be where it is going to be.
    while (Clock::now() < end) {
      if (Socket socket = fetch(place, {place, rank, size}, bytes, std::min(end, Clock::now() + kGreetingTime), why)) {
        Line line(rank);
        if (size <= kMostKept) line.add(0, std::move(socket));
        return line;
      }
      std::this_thread::sleep_for(20ms);
    }
    throw_absent(place, why, limit);
  }
  if (size == 1) return Line(0);
  Host host(place, size, bytes);
  host.serve(end);
  if (host.told() + 1 == size) return host.line();
  std::string found = fmt::format("{} of {} ranks", host.told() + 1, size);
  if (host.strangers() > 0)
    found += fmt::format(", and {} connections of other programs, jobs or secrets", host.strangers());
  throw_absent(place, found, limit);
}

}  // namespace halfstep::nccl
