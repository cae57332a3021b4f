// The connections by which ranks have found each other: as long as they last, ranks tell by them that they are there,
// and that they leave.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "distributed/signs_of_life.h"
#include <halfstep/distributed/communicator.h>

namespace halfstep::nccl {

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

/// What a rank tells. As it travels.
struct Message {
  enum class Kind : std::int32_t {
    beat,      ///< it is there
    leaves,    ///< it takes part in its first `operations` operations alone, and waits until all leave
    gives_up,  ///< the same, and it waits for nobody
    last,      ///< all have left
    loss       ///< of another, as `text` says
  };
  Kind kind = Kind::beat;
  std::int32_t rank = 0;
  std::uint64_t operations = 0;
  std::array<char, 240> text = {};  ///< "rank 1 (host)"; of who leaves and of a loss, what is to be said
};

/// Of rank 0 to all others, of these to rank 0, which tells the others what one of them tells. To be used by one thread
/// at a time; nothing in it waits.
class Line {
 public:
  using Clock = SignsOfLife::Clock;

  Line() = default;  ///< nobody is told anything
  explicit Line(int rank);

  void add(int rank, Socket socket) { ends_.push_back({.rank = rank, .socket = std::move(socket)}); }
  /// After all have been added: `limit` is after how long a silent rank is lost; 0: never.
  void watch(std::chrono::milliseconds limit) { signs_ = SignsOfLife(limit, ends_.size()); }
  /// Whether `look` is to be called again and again, at least every `pause()`.
  bool watches() const { return signs_.watches() && !ends_.empty(); }
  std::chrono::milliseconds pause() const { return signs_.pause(); }

  /// Hears what has come since, and gives a sign of life.
  void look(Clock::time_point now);
  /// A rank that gives no sign of life.
  const std::optional<SharedError>& loss() const { return loss_; }
  /// Why operation `number`, from 0 on, is not one of all ranks, by the first rank that is known not to take part. A
  /// process that is gone without a word is given a moment, as it may have done its part.
  std::optional<SharedError> missing(std::uint64_t number) const;

  /// Tells that this rank leaves, and whether it waits for the others to do so. Only the first call does something.
  void leave(std::uint64_t operations, bool waits) noexcept;
  /// Whether nobody is left to wait for.
  bool is_over();

 private:
  struct End {
    int rank = 0;
    Socket socket = Socket();
    Message heard = {};  // as much as has come of one
    std::size_t received = 0;
    std::vector<std::byte> unsent = {};
    std::string name = {};
    bool has_left = false;
    std::optional<Clock::time_point> gone_at = {};  // without a word
  };
  void hear(std::size_t i, Clock::time_point now);
  void take(End& end, const Message& message);
  void take_leaver(const Message& leaver);
  void take_gone(End& end, Clock::time_point now);
  static void send(End& end, const Message& message);
  static void flush(End& end);

  int rank_ = 0;
  Message own_;
  std::vector<End> ends_;
  SignsOfLife signs_;
  std::vector<Message> leavers_;  // as they were heard: the first may be why the others leave
  std::optional<SharedError> loss_;
  bool has_told_ = false, has_given_up_ = false, is_last_heard_ = false, is_last_told_ = false;
};

}  // namespace halfstep::nccl
